"""From rows to values. A reader never fails: a row that somebody else wrote must not break a fetch.

Times are read as seconds since 1970 and JSON as text, so that every driver gives the same, an
infinite timestamp is a number like any other, and what cannot be read is known per row.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from oban.engines.browsing import ARGS_BYTES
from oban.engines.runs import ProducerIdentity
from oban.job import Job
from oban.states import EXECUTING, JobState

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
LATEST: Final = datetime.max.replace(tzinfo=UTC)
#: Up to this second a float tells microseconds apart, however it is rounded to them.
EXACT: Final = 4_000_000_000
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
    *(f"date_part('epoch', job.{name})" for name in MOMENTS),
)
#: Of a job that was just claimed, what the claimant does not know; as narrow as it can be.
CLAIMED_COLUMNS: Final = (
    "id",
    "worker",
    "attempt",
    "max_attempts",
    "priority",
    "cast(job.args as text)",
    "nullif(cast(job.meta as text), '{}')",
    "nullif(cast(to_jsonb(job.errors) as text), '[]')",
    "nullif(job.tags, '{}')",
    *(f"date_part('epoch', job.{name})" for name in MOMENTS),
)

#: Of a job in a list: `given.args` is null where they are too large to be read, nothing is read of
#: meta and errors, and a beginning of what may be longer than anybody means it to be.
GLANCE_COLUMNS: Final = tuple(
    {
        "cast(job.args as text)": "given.args",
        "cast(job.meta as text)": "null",
        "cast(to_jsonb(job.errors) as text)": "null",
        "tags": "array(select left(tag, 200) from unnest(job.tags) as tag limit 5)",
        "attempted_by": "array(select left(by, 200) from unnest(job.attempted_by) as by limit 2)",
    }.get(each, each if "(" in each else f"job.{each}")
    for each in COLUMNS
)

#: What a statement may write in braces.
COLUMN_LISTS: Final = {
    "glance_columns": ", ".join(GLANCE_COLUMNS),
    "job_columns": ", ".join(each if "(" in each else f"job.{each}" for each in COLUMNS),
    "claimed_columns": ", ".join(
        each if "(" in each else f"job.{each}" for each in CLAIMED_COLUMNS
    ),
    "no_claimed_columns": ", ".join("null" for _ in CLAIMED_COLUMNS),
}

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


def read_glance(row: Sequence[Any]) -> Job:
    """Read the columns of `{glance_columns}`, and behind them how many bytes the arguments take."""
    job = read_job(row)
    if row[COLUMNS.index("cast(job.args as text)")] is None and row[-1] is not None:
        job.extra[ARGS_BYTES] = row[-1]
    return job


def read_claimed(rows: Iterable[Sequence[Any]], producer: ProducerIdentity) -> Iterator[Job]:
    """Read the columns of `{claimed_columns}`, which stand at the beginning of each row."""
    queue, node, uuid = producer.queue, producer.node, producer.uuid
    last_epoch: float | None = None
    attempted_at: datetime | None = None
    for (
        identity, worker, attempt, max_attempts, priority, args, meta, errors, tags,
        inserted, scheduled, attempted, completed, cancelled, discarded,
    ) in rows:  # fmt: skip
        if attempted != last_epoch:  # one time for all of a turn
            last_epoch, attempted_at = attempted, moment(attempted)
        inserted_at = moment(inserted)
        trouble: list[str] = []
        job = Job.restore(
            id=identity,
            state=EXECUTING,
            queue=queue,
            worker=worker,
            attempt=attempt,
            max_attempts=max_attempts,
            priority=priority,
            args=read_json("args", args, {}, trouble),
            meta=read_json("meta", meta, {}, trouble),
            errors=read_json("errors", errors, [], trouble),
            tags=tags or [],
            attempted_by=[node, uuid],
            inserted_at=inserted_at,
            scheduled_at=inserted_at if scheduled == inserted else moment(scheduled),
            attempted_at=attempted_at,
            completed_at=moment(completed),
            cancelled_at=moment(cancelled),
            discarded_at=moment(discarded),
        )
        if trouble:
            job.extra[UNREADABLE] = "; ".join(trouble)
        yield job


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
        value, end = parse(text)
        if end != len(text):
            value = json.loads(text)
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits, or lists nested thousands deep: valid in PostgreSQL.
        trouble.append(f"{name} cannot be read: {type(error).__name__}: {error}")
        return empty
    if value is None:
        return empty
    if type(value) is not type(empty):
        trouble.append(f"{name} is {text:.200}, which is not {SHAPES[type(empty)]}")
    return value


NOTHING: Final[dict[type, str]] = {dict: "{}", list: "[]"}
SHAPES: Final[dict[type, str]] = {dict: "an object", list: "a list"}


#: JSON as PostgreSQL writes it, without space around it; returns the value and where it ends.
parse: Final = json.JSONDecoder().raw_decode


def moment(epoch: float | None) -> datetime | None:
    if epoch is None:
        return None
    if 0 <= epoch < EXACT:
        return datetime.fromtimestamp(epoch, UTC)
    try:
        return EPOCH + timedelta(microseconds=round(epoch * 1_000_000))
    except (OverflowError, ValueError):  # beyond the calendar, infinite, or no number
        return LATEST if epoch > 0 else EARLIEST
