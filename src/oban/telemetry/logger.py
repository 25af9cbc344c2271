"""Write a log line for each event. No other file logs events."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

from oban.errors import InvalidOption
from oban.telemetry import events as telemetry
from oban.telemetry.events import Metadata
from oban.telemetry.json_line import json_line
from oban.telemetry.plain import is_outage
from oban.telemetry.text_line import RESCUE, text_line

Format: TypeAlias = Literal["json", "text"]

ID = "oban.telemetry.logger"

WARNINGS = frozenset(
    {
        "oban.broadcaster.outage",
        "oban.counter.held",
        "oban.counter.outage",
        "oban.job.bad_backoff",
        "oban.job.deadline",
        "oban.job.hook_failed",
        "oban.job.retry_conflict",
        "oban.job.timeout",
        "oban.job.unique_lost",
        "oban.lifeline.outage",
        "oban.lifeline.refused",
        "oban.pruner.outage",
        "oban.pruner.refused",
        "oban.refresher.blocked",
        "oban.refresher.late",
        "oban.refresher.outage",
        "oban.refresher.wedged",
        "oban.reporter.dropped",
        "oban.reporter.outage",
        "oban.scheduler.outage",
        "oban.scheduler.refused",
        "oban.scheduler.twins",
        "oban.signals.deaf",
        "oban.producer.outage",
        "oban.producer.refused",
        "oban.producer.stale",
        "oban.producer.stuck",
        "oban.producer.unknown_limits",
        "oban.signals.outage",
        "oban.signals.undecodable",
        "oban.stager.outage",
    }
)


def attach(
    level: int | str = logging.INFO,
    logger: logging.Logger | None = None,
    events: str | Iterable[str] | None = None,
    *,
    format: Format | None = None,  # noqa: A002 - the word everybody uses
    args: bool = False,
) -> None:
    """Log events, all of ours unless some are named, as one line each.

    Jobs are logged at `level`, failures at ERROR, trouble at WARNING, loops at DEBUG. Of an outage
    the 1st, 2nd, 4th, 8th … failure of each loop is trouble, and the others are DEBUG. Lines go to
    the logger `oban` unless another is given; configuring logging, so that they are seen, is the
    application's part. `"json"` is for machines, `"text"` for people, coloured on a terminal;
    without a format the text is chosen if, now, all that is logged ends on a terminal. A job's
    `args`, which may hold secrets, are left out of the JSON unless asked for. Attaching again
    replaces the settings.
    """
    target = logger if logger is not None else logging.getLogger("oban")
    log = _EventLog(target, _level(level), _render(target, format, args=args))
    telemetry.attach(ID, "oban.*" if events is None else events, log, replace=True)


def detach() -> bool:
    """Stop logging events; false if they were not logged."""
    return telemetry.detach(ID)


@dataclass(frozen=True, slots=True)
class _EventLog:
    logger: logging.Logger
    job_level: int
    render: Callable[[str, int, Metadata], str]

    def __call__(self, name: str, metadata: Metadata) -> None:
        level = self.level_of(name, metadata)
        if self.logger.isEnabledFor(level):
            # The name lets a filter choose without reading the line.
            text = self.render(name, level, metadata)
            self.logger.log(level, text, extra={"oban_event": name})

    def level_of(self, name: str, metadata: Metadata) -> int:
        if name in WARNINGS:
            return logging.DEBUG if _is_repetition(name, metadata) else logging.WARNING
        if name == RESCUE and metadata.get("rescued_count"):
            return logging.WARNING
        if name.startswith("oban.client."):
            return logging.DEBUG  # whoever enqueues is told of a failure by what it raises
        is_job = name.startswith("oban.job.")
        if name.endswith(".exception"):
            # A loop that is cancelled is a node that stops, not a failure.
            stopped = not is_job and metadata.get("error_type") == "CancelledError"
            # That the database is away is told as an outage, by the loop whose span this is.
            quiet = stopped or is_outage(name, metadata)
            return logging.DEBUG if quiet else logging.ERROR
        if is_job:
            return self.job_level
        return logging.DEBUG if name.endswith((".start", ".stop")) else logging.INFO


def _is_repetition(name: str, metadata: Metadata) -> bool:
    """Whether this failure of an outage, whose number it is, falls between two powers of two."""
    number = metadata.get("failures")
    return name.endswith(".outage") and isinstance(number, int) and bool(number & (number - 1))


def _level(level: int | str) -> int:
    if isinstance(level, int):
        return level
    names = logging.getLevelNamesMapping()
    try:
        return names[level.upper()]
    except KeyError:
        known = ", ".join(names)
        raise InvalidOption(f"level {level!r} is not a number or one of {known}") from None


def _render(
    logger: logging.Logger, form: Format | None, *, args: bool
) -> Callable[[str, int, Metadata], str]:
    if form not in {"json", "text", None}:
        raise InvalidOption(f"format {form!r} is not 'json', 'text' or None (chosen by terminal)")
    on_terminal = _ends_on_terminal(logger)
    if form == "json" or (form is None and not on_terminal):
        return partial(json_line, args=args)
    return partial(text_line, color=on_terminal)


def _ends_on_terminal(logger: logging.Logger) -> bool:
    """Whether every place this logger writes to is a terminal: colour must not end in a file."""
    handlers: list[logging.Handler] = []
    reached: logging.Logger | None = logger
    while reached is not None:
        handlers += [one for one in reached.handlers if not isinstance(one, logging.NullHandler)]
        reached = reached.parent if reached.propagate else None
    if not handlers and logging.lastResort is not None:
        handlers = [logging.lastResort]
    return bool(handlers) and all(map(_is_terminal, handlers))


def _is_terminal(handler: logging.Handler) -> bool:
    stream = getattr(handler, "stream", None)  # none yet in a file handler that opens late
    try:
        return stream is not None and bool(stream.isatty())
    except (AttributeError, ValueError):  # not quite a stream, or closed
        return False
