"""An event as a line a person likes to read."""

import logging
import time
from functools import cache
from typing import TypeAlias

from oban.telemetry.events import Metadata
from oban.telemetry.plain import bounded, is_job, is_outage, plain, shortened

Piece: TypeAlias = tuple[str, str]  # text and its style

# What became of a job, by the state it went to: the word in front of its line and its style.
MARKS = {
    "completed": ("ok", "green"),
    "scheduled": ("snooze", "cyan"),
    "retryable": ("retry", "yellow"),
    "cancelled": ("cancel", "magenta"),
    "discarded": ("discard", "bold red"),
    "available": ("back", "yellow"),
}
LONGEST_VALUE = 200
UNTOLD = frozenset(
    {"system_time", "monotonic_time", "duration", "error_message", "error_type", "traceback"}
)
RESCUE = "oban.lifeline.rescue.stop"
MOST_IDS = 10  # of the jobs to which the same happened


def text_line(name: str, level: int, metadata: Metadata, *, color: bool = False) -> str:
    """Return the event on one compact line; the traceback of a failure follows, indented.

    An outage of the database has none: that it is away is all there is to know.

    `12:01:02.123 ok      mailers  app.MailerWorker #42 1/20  12.3 ms (waited 4.1 ms)`. Times of
    day are local. Control characters in names and messages are shown escaped: a row must not
    steer a terminal.
    """
    pieces = [(time_of_day(), "dim"), (" ", "")]
    if name.startswith("oban.job.") and metadata.get("job") is not None:
        pieces += _job(name, metadata)
    else:
        pieces += _event(name, level, metadata)
    pieces += _outage(metadata) if is_outage(name, metadata) else _error(metadata)
    return _colored(pieces) if color else "".join(text for text, _ in pieces)


def _job(name: str, metadata: Metadata) -> list[Piece]:
    job = metadata["job"]
    if name == "oban.job.start":
        word, style = "start", "blue"
    else:
        state = str(metadata.get("state", name.removeprefix("oban.job.")))
        word, style = MARKS.get(state, (_clean(state), "bold"))

    def field(key: str) -> str:
        return _clean(str(getattr(job, key, "?")))

    pieces = [
        (f"{word:<7} ", style),
        (f"{field('queue')}  ", "cyan"),
        (field("worker"), "bold"),
        (f" #{field('id')} {field('attempt')}/{field('max_attempts')}", ""),
    ]
    if "duration" in metadata:
        pieces.append((f"  {_duration(metadata['duration'])}", ""))
    if "queue_time" in metadata:
        pieces.append((f" (waited {_duration(metadata['queue_time'])})", "dim"))
    return pieces


def _event(name: str, level: int, metadata: Metadata) -> list[Piece]:
    if level >= logging.ERROR:
        word, style = "error", "bold red"
    elif level >= logging.WARNING:
        word, style = "warn", "yellow"
    else:
        word, style = "info" if level >= logging.INFO else "debug", "dim"
    pieces = [(f"{word:<7} ", style), (_clean(name.removeprefix("oban.")), "bold")]
    if "duration" in metadata:
        pieces.append((f"  {_duration(metadata['duration'])}", ""))
    for key, value in metadata.items():
        if key not in UNTOLD:
            shown = _by_fate(value) if name == RESCUE and key == "jobs" else _value(value)
            pieces += [(f"  {_clean(str(key))}=", "dim"), (shown, "")]
    return pieces


def _by_fate(jobs: object) -> str:
    """`2 rescued (#41 #42), 1 exhausted (#43)`."""
    if not isinstance(jobs, dict):
        return _value(jobs)
    fates: dict[str, list[str]] = {}
    for id_, fate in jobs.items():
        fates.setdefault(str(fate), []).append(f"#{id_}")
    return ", ".join(
        _clean(f"{len(ids)} {fate} ({' '.join(ids[:MOST_IDS])}{' …' if ids[MOST_IDS:] else ''})")
        for fate, ids in fates.items()
    )


def _outage(metadata: Metadata) -> list[Piece]:
    message = " ".join(str(metadata.get("error_message", "")).split())
    return [(f"  {_value(metadata['error_type'])}: {_value(message)}", "red")]


def _error(metadata: Metadata) -> list[Piece]:
    if trace := metadata.get("traceback"):
        lines = shortened(str(trace)).rstrip().split("\n")
        return [("".join(f"\n    {_clean(line)}" for line in lines), "dim")]
    if "error_type" in metadata or "error_message" in metadata:
        kind, message = metadata.get("error_type", "error"), metadata.get("error_message", "")
        return [(f"  {_value(kind)}: {_value(message)}", "red")]
    return []


def _value(value: object) -> str:
    if isinstance(value, float):
        text = str(round(value, 3))
    elif is_job(value):
        text = f"{getattr(value, 'worker', '')}#{getattr(value, 'id', '')}"
    else:
        told = bounded(value) if isinstance(value, list | tuple) else value
        text = str(plain(told, args=False))
    return _clean(shortened(text, LONGEST_VALUE))


def _clean(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else "    " if each == "\t" else ascii(each)[1:-1]
        for each in text
    )


def _duration(nanoseconds: object) -> str:
    if not isinstance(nanoseconds, int | float):
        return _value(nanoseconds)
    milliseconds = nanoseconds / 1_000_000
    return f"{milliseconds:.1f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def time_of_day() -> str:
    now = time.time()
    return f"{time.strftime('%H:%M:%S', time.localtime(now))}.{int(now % 1 * 1000):03}"


def _colored(pieces: list[Piece]) -> str:
    return "".join(text.join(_codes(style)) for text, style in pieces)


@cache
def _codes(style: str) -> tuple[str, str]:
    """What turns a style on and off again here: rich knows the terminal, TERM and NO_COLOR.

    Asked once per style, because rendering whole lines takes it ten times as long as the rest.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(force_terminal=True, highlight=False)
    with console.capture() as captured:
        console.print(Text("|", style), end="")
    before, _, after = captured.get().partition("|")
    return before, after
