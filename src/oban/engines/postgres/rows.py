"""From rows to values. A reader never fails: a row that somebody else wrote must not break a fetch.

Times are read as seconds since 1970 and JSON as text, so that every driver gives the same, an
infinite timestamp is a number like any other, and what cannot be read is known per row.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from oban.job import Job, JobState

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
LATEST: Final = datetime.max.replace(tzinfo=UTC)
MOMENTS: Final = (
    "inserted_at",
    "scheduled_at",
    "attempted_at",
    "completed_at",
    "cancelled_at",
    "discarded_at",
)
COLUMNS: Final = (
    "id",
    "cast(job.state as text)",
    "queue",
    "worker",
    "attempt",
    "max_attempts",
    "priority",
    "cast(job.args as text)",
    "cast(job.meta as text)",
    "cast(to_jsonb(job.errors) as text)",
    "tags",
    "attempted_by",
    *(f"cast(extract(epoch from job.{name}) as float8)" for name in MOMENTS),
)

JOB_COLUMNS: Final = ", ".join(each if "(" in each else f"job.{each}" for each in COLUMNS)
NO_JOB_COLUMNS: Final = ", ".join("null" for _ in COLUMNS)

#: What a statement may write in braces.
COLUMN_LISTS: Final = {"job_columns": JOB_COLUMNS, "no_job_columns": NO_JOB_COLUMNS}

#: Under this key of `Job.extra` stands why a row could not be read as a job.
UNREADABLE: Final = "unreadable"


def read_job(row: Sequence[Any]) -> Job:
    """Read the columns of `{job_columns}`, which stand at the beginning of the row."""
    (
        identity, state, queue, worker, attempt, max_attempts, priority, args, meta, errors, tags,
        attempted_by, inserted_at, scheduled_at, attempted_at, completed_at, cancelled_at,
        discarded_at, *_,
    ) = row  # fmt: skip
    trouble: list[str] = []
    job = Job.restore(
        id=identity,
        state=read_state(state),
        queue=queue,
        worker=worker,
        attempt=attempt,
        max_attempts=max_attempts,
        priority=priority,
        args=read_json("args", args, {}, trouble),
        meta=read_json("meta", meta, {}, trouble),
        errors=read_json("errors", errors, [], trouble),
        tags=tags or [],
        attempted_by=attempted_by or [],
        inserted_at=moment(inserted_at),
        scheduled_at=moment(scheduled_at),
        attempted_at=moment(attempted_at),
        completed_at=moment(completed_at),
        cancelled_at=moment(cancelled_at),
        discarded_at=moment(discarded_at),
    )
    if trouble:
        job.extra[UNREADABLE] = "; ".join(trouble)
    return job


def read_state(state: str) -> JobState:
    """A state that a newer package brought stays the text it is."""
    try:
        return JobState(state)
    except ValueError:
        return cast("JobState", state)


def read_json(name: str, text: str | None, empty: Any, trouble: list[str]) -> Any:
    """Parse a JSON column, null as `empty`; note what cannot be read or has another shape."""
    if text is None or text == NOTHING[type(empty)]:
        return empty
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits, or lists nested thousands deep: valid in PostgreSQL.
        trouble.append(f"{name} cannot be read: {type(error).__name__}: {error}")
        return empty
    if value is None:
        return empty
    if not isinstance(value, type(empty)):
        trouble.append(f"{name} is {text:.200}, which is not {SHAPES[type(empty)]}")
    return value


NOTHING: Final[dict[type, str]] = {dict: "{}", list: "[]"}
SHAPES: Final[dict[type, str]] = {dict: "an object", list: "a list"}


def moment(epoch: float | None) -> datetime | None:
    if epoch is None:
        return None
    try:
        return EPOCH + timedelta(microseconds=round(epoch * 1_000_000))
    except (OverflowError, ValueError):  # beyond the calendar, infinite, or no number
        return LATEST if epoch > 0 else EARLIEST
