"""Where output goes and how it is made fit for it: a terminal, a pipe, or a program."""

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TextIO

from rich.console import Console, RenderableType
from rich.text import Text

#: Columns at most where there is no terminal to fit.
PIPE_WIDTH: Final = 160


def output() -> Console:
    """The console for what was asked for."""
    return console(sys.stdout)


def show(*renderables: RenderableType, on: Console | None = None) -> None:
    """Print what was asked for; where no terminal reads it, without blanks at the ends of lines."""
    console = on or output()
    if console.is_terminal:
        console.print(*renderables, sep="\n")
        return
    with console.capture() as captured:
        console.print(*renderables, sep="\n")
    console.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    console.file.flush()


def messages() -> Console:
    """The console for everything else."""
    return console(sys.stderr)


def console(stream: TextIO) -> Console:
    """Colours and the terminal's width on a terminal, neither elsewhere.

    Made when needed and not kept: the streams may have been replaced meanwhile.
    """
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def attended() -> bool:
    """Whether somebody sits in front of it, who can read and answer."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def say(*pieces: str | tuple[str, str] | Text) -> None:
    """Tell the person something, on a line of its own."""
    messages().print(Text.assemble(*pieces), soft_wrap=True)


def warn(text: str) -> None:
    say(("warning: ", "yellow"), printable(text))


def print_json(value: object) -> None:
    """Print a document. ASCII, so that nothing in a row can steer a terminal."""
    sys.stdout.write(json.dumps(value, indent=2, default=plain) + "\n")


def plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def printable(text: str) -> str:
    """Text with its control characters shown: what stands in a row must not steer a terminal."""
    if text.isprintable():
        return text
    return "".join(
        each
        if each.isprintable() or each == "\n"
        else "    "
        if each == "\t"
        else ascii(each)[1:-1]
        for each in text
    )


def relative(moment: datetime | None, now: datetime | None = None) -> str:
    """How far from now, in its largest unit: `in 5m`, `3d ago`."""
    if moment is None:
        return ""
    distance = moment - (now or datetime.now(UTC))
    amount = duration(abs(distance))
    return (
        "now" if amount == "0s" else f"in {amount}" if distance > timedelta() else f"{amount} ago"
    )


def duration(length: timedelta) -> str:
    seconds = int(length.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size or (seconds >= size and seconds % size == 0):
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def flat(text: str) -> str:
    """Printable, and a single line: a name may not look like more of what we say."""
    return printable(text).replace("\n", " ")


def one_line(text: str) -> Text:
    """A cell that is cut where it does not fit, and never wrapped."""
    return Text(flat(text), no_wrap=True, overflow="ellipsis")
