"""How values look on a page: filters and globals of the templates."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from oban.job import Job
from oban.phrases import moment_text, span_text
from oban.states import JobState
from oban.web.query import quoted

#: What a page loads beside itself.
STATIC: Final = Path(__file__).parent / "static"
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
#: In the place of what a row can hold, and Python cannot walk through.
TOO_DEEP: Final = "(nested too deep to be shown)"
#: Tags of a job that its page shows, and characters of each.
MOST_TAGS: Final = 100
#: Characters of a text that a page holds.
PAGE: Final = 50_000


@cache
def version() -> str:
    """Of the files that a page loads: another where one of them is another."""
    digest = sha256()
    for path in sorted(STATIC.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


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
        span=span_text,
        moment=moment_text,
        pretty=pretty,
        brief=brief,
        bounded=bounded,
        cell=cell,
        stem=stem,
        word=quoted,
    )
    made.globals.update(signs=SIGNS, version=version(), most_tags=MOST_TAGS)
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


def bytes_text(size: float) -> str:
    """`900 B`, `12 kB`, `3.4 MB`."""
    if size < 1_000:
        return f"{size:.0f} B"
    return f"{size / 1e3:.0f} kB" if size < 999_500 else f"{size / 1e6:.1f} MB"


def bounded(text: str) -> str:
    """What a page holds of a text."""
    if len(text) <= PAGE:
        return text
    return (
        f"{text[:PAGE]}…\n\n"
        f"These are the first {PAGE:,} of {len(text):,} characters; the job as JSON has all."
    )


def ago(at: datetime | None) -> str:
    """`4 s ago`, `in 2 min`."""
    if at is None:
        return ""
    distance = (at - datetime.now(UTC)).total_seconds()
    if abs(distance) < 1:
        return "now"
    text = span_text(abs(distance), pieces=1)
    return f"in {text}" if distance > 0 else f"{text} ago"


def pretty(value: object) -> str:
    try:
        return json.dumps(value, indent=2, ensure_ascii=False, default=str)
    except RecursionError:  # written with an indent it is so sooner than without
        return on_one_line(value)


def on_one_line(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        return TOO_DEEP


def brief(value: object) -> str:
    """A JSON value on one line, cut where a cell ends."""
    return cell(on_one_line(value))


def cell(text: str) -> str:
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
