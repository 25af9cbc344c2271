"""Where a job's code runs, how long an attempt may take, and until when it may begin.

An option of a worker is known wherever its code is. What is given for one job stands in its `meta`,
where any node sees it: `timeout` in seconds, and `deadline_at` as ISO 8601.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, get_args

from oban.errors import InvalidJob, InvalidOption
from oban.fields import Seconds, clean_moment, seconds
from oban.job import Job

Place = Literal["async", "thread", "process"]

TIMEOUT: Final = "timeout"
DEADLINE: Final = "deadline_at"

#: What can run where; nothing else awaits a coroutine or keeps a `def` from blocking the loop.
POSSIBLE: Final[Mapping[bool, tuple[Place, ...]]] = {
    True: ("async", "process"),
    False: ("thread", "process"),
}


def clean_place(worker: str, given: object, *, is_async: bool) -> Place:
    """The `executor` of a worker, by default as its function asks. Raises InvalidOption."""
    possible = POSSIBLE[is_async]
    for place in possible:
        if given in (None, place):
            return place
    kind = "async def" if is_async else "def"
    if given in get_args(Place):
        raise InvalidOption(
            f"executor of {worker} is {given!r}, which cannot run its `{kind}`; "
            f"possible are {' and '.join(map(repr, possible))}"
        )
    raise InvalidOption(
        f"executor of {worker} is {given!r:.80}; for its `{kind}` it is "
        f"{' or '.join(map(repr, possible))}"
    )


def clean_timeout(given: object) -> float | None:
    if given is None:
        return None
    value = seconds("timeout", given)
    if value <= 0:
        raise InvalidJob(f"timeout is {value:g} seconds; it is more than 0")
    return value


def clean_deadline(given: object, due: datetime | None) -> datetime | None:
    """A moment as it is; seconds count from when the job is due."""
    if given is None or isinstance(given, datetime):
        return clean_moment("deadline", given)
    value = seconds("deadline", given)
    if value <= 0:
        raise InvalidJob(f"deadline is {value:g} seconds; it is more than 0, or an aware datetime")
    try:
        return (due or datetime.now(UTC)) + timedelta(seconds=value)
    except OverflowError:
        raise InvalidJob(f"deadline is {value:g} seconds after {due}, beyond all time") from None


def mark(job: Job, timeout: Seconds | None, deadline: Seconds | datetime | None) -> None:
    """Note both in the job, in a `meta` of its own."""
    marks: dict[str, Any] = {}
    if (allowed := clean_timeout(timeout)) is not None:
        marks[TIMEOUT] = allowed
    if (latest := clean_deadline(deadline, job.scheduled_at)) is not None:
        marks[DEADLINE] = latest.isoformat()
    if marks:
        job.meta = {**job.meta, **marks}


def timeout_of(job: Job, default: float | None) -> float | None:
    """Seconds that an attempt may take; what is in the row may be anything."""
    meta: object = job.meta
    if not isinstance(meta, dict) or TIMEOUT not in meta:
        return default
    try:
        return clean_timeout(meta[TIMEOUT]) or default
    except InvalidJob:
        return default


def missed_deadline(job: Job) -> datetime | None:
    """The deadline, if the job was claimed after it, by the database's clock."""
    meta: object = job.meta
    if not isinstance(meta, dict) or DEADLINE not in meta:
        return None
    try:
        latest = datetime.fromisoformat(meta[DEADLINE])
        missed = latest < (job.attempted_at or datetime.now(UTC))
    except (TypeError, ValueError):  # no moment, or one without a zone: not ours
        return None
    return latest if missed else None
