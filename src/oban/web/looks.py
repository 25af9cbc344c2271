"""How values look on a page: filters and globals of the templates."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from oban.job import Job
from oban.phrases import length_text, moment_text
from oban.states import JobState
from oban.web.query import quoted

#: States in the order of a job's life, each with the sign that tells it without its colour.
SIGNS: Final[Mapping[str, str]] = {
    JobState.AVAILABLE: "queue",
    JobState.EXECUTING: "play",
    JobState.SCHEDULED: "clock",
    JobState.RETRYABLE: "retry",
    JobState.SUSPENDED: "pause",
    JobState.COMPLETED: "check",
    JobState.CANCELLED: "stop",
    JobState.DISCARDED: "cross",
}
#: Characters of a text that a cell holds.
CELL: Final = 160


def environment() -> Environment:
    made = Environment(
        loader=PackageLoader("oban.web"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=number,
        short=short,
        ago=ago,
        span=length,
        moment=moment_text,
        pretty=pretty,
        brief=brief,
        stem=stem,
        word=quoted,
    )
    made.globals.update(signs=SIGNS)
    return made


def number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def short(number: float) -> str:
    """`999`, `12.3k`, `4.1M`."""
    if number < 9_999.5:
        return f"{number:,.0f}"
    unit, scaled = next(
        (unit, number / size)
        for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k"))
        if number >= size * 0.9995 or unit == "k"
    )
    return f"{scaled:.1f}{unit}" if scaled < 99.95 else f"{scaled:.0f}{unit}"


def ago(at: datetime | None) -> str:
    """`4 s ago`, `in 2 min`."""
    if at is None:
        return ""
    distance = (at - datetime.now(UTC)).total_seconds()
    if abs(distance) < 1:
        return "now"
    text = length(abs(distance), pieces=1)
    return f"in {text}" if distance > 0 else f"{text} ago"


def length(seconds: float | timedelta | None, pieces: int = 2) -> str:
    """A span of time in its largest units: `3 µs`, `12 ms`, `1.4 s`, `2 min 5 s`, `3 d 4 h`."""
    if seconds is None:
        return ""
    left = seconds.total_seconds() if isinstance(seconds, timedelta) else float(seconds)
    if not math.isfinite(left):
        return "ever"
    if left < 0.001:
        return f"{max(0.0, left) * 1e6:.0f} µs"
    if left < 1:
        return f"{left * 1e3:.0f} ms"
    if left < 10:
        return f"{left:.1f} s" if pieces > 1 else f"{left:.0f} s"
    return length_text(left, pieces)


def pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def brief(value: object) -> str:
    """A JSON value on one line, cut where a cell ends."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= CELL else f"{text[: CELL - 1]}…"


def stem(worker: str) -> tuple[str, str]:
    """A worker's name in two: what is in front of its last part, and that."""
    module, dot, name = worker.rpartition(".")
    return module + dot, name


def when(job: Job) -> tuple[str, datetime | None]:
    """What last happened to a job, or happens next, and when."""
    match job.state:
        case JobState.SCHEDULED | JobState.RETRYABLE:
            return "due", job.scheduled_at
        case JobState.EXECUTING:
            return "began", job.attempted_at
        case JobState.COMPLETED:
            return "ended", job.completed_at
        case JobState.CANCELLED:
            return "ended", job.cancelled_at
        case JobState.DISCARDED:
            return "ended", job.discarded_at
        case JobState.AVAILABLE:
            return "since", job.scheduled_at
        case _:
            return "inserted", job.inserted_at


def ended_at(job: Job) -> datetime | None:
    return job.completed_at or job.cancelled_at or job.discarded_at


def times(job: Job) -> dict[str, Any]:
    """How long a job waited before its last attempt, and ran in it, in seconds."""
    began, ended, due = job.attempted_at, ended_at(job), job.scheduled_at
    if began is None:
        return {"wait": None, "run": None}
    run = (ended or datetime.now(UTC)) - began if ended or job.state == "executing" else None
    wait = began - due if due is not None and due <= began else None
    return {
        "wait": None if wait is None else wait.total_seconds(),
        "run": None if run is None else max(0.0, run.total_seconds()),
    }
