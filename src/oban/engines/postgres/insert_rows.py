"""Jobs as the rows that an insert is given, and as what is stored of them."""

# What is called for each job has annotations too, which would be evaluated at each call.
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from oban.errors import InvalidJob
from oban.fields import encode
from oban.job import Job
from oban.states import JobState
from oban.unique import MARKS

MAX_INSERT_JOBS: Final = 10_000
MAX_INSERT_BYTES: Final = 16_000_000

#: Jobs that are written as JSON at once.
GROUP: Final = 100
#: What the statement takes where it is told of none.
DEFAULT_ATTEMPTS: Final = 20

INSERTABLE: Final = (JobState.AVAILABLE, JobState.SCHEDULED, JobState.SUSPENDED)

#: What the statement is told of a job.
Row = dict[str, Any]


def as_stored(job: Job, written: Mapping[str, Any], identity: int, inserted_at: datetime) -> Job:
    """The job with the database's values, as a value of its own.

    What the database makes of its fields follows from what it was sent.
    """
    scheduled_at = job.scheduled_at or inserted_at
    waits = JobState.SCHEDULED if scheduled_at > inserted_at else JobState.AVAILABLE
    stored = Job.restore(
        id=identity,
        state=job.state if job.state is JobState.SUSPENDED else waits,
        queue=job.queue,
        worker=job.worker,
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        priority=job.priority,
        args=written.get("args", {}),
        meta=written.get("meta", {}),
        errors=list(job.errors),
        tags=list(job.tags),
        attempted_by=list(job.attempted_by),
        inserted_at=inserted_at,
        scheduled_at=scheduled_at,
        attempted_at=job.attempted_at,
        completed_at=job.completed_at,
        cancelled_at=job.cancelled_at,
        discarded_at=job.discarded_at,
    )
    stored.extra = dict(job.extra)
    stored.unique = job.unique
    return stored


def chunked(
    jobs: Sequence[Job], row_of: Callable[[Job], Row] | None = None
) -> Iterator[tuple[Sequence[Job], str]]:
    """Split into what one statement takes, each part with its JSON; a huge job goes alone."""
    rows: list[str] = []
    size = start = end = 0
    for group, text in groups(jobs, row_of or inserted_row):
        length = len(text) if text.isascii() else len(text.encode("utf-8"))
        count = end - start + len(group)
        if rows and (count > MAX_INSERT_JOBS or size + length > MAX_INSERT_BYTES):
            yield jobs[start:end], f"[{','.join(rows)}]"
            rows, size, start = [], 0, end
        rows.append(text)
        size += length
        end += len(group)
    if rows:
        yield jobs[start:], f"[{','.join(rows)}]"


def groups(
    jobs: Sequence[Job], row_of: Callable[[Job], Row]
) -> Iterator[tuple[Sequence[Job], str]]:
    """Jobs with their JSON, many at a time, since a list is written in a fraction of the time."""
    most = min(GROUP, MAX_INSERT_JOBS)
    for start in range(0, len(jobs), most):
        group = jobs[start : start + most]
        rows = [row_of(job) for job in group]
        waiting = [(group, rows)]
        while waiting:
            group, rows = waiting.pop()
            text = encode(rows)[1:-1]
            if len(text) > MAX_INSERT_BYTES / 4 and len(group) > 1:
                middle = len(group) // 2
                waiting += [(group[middle:], rows[middle:]), (group[:middle], rows[:middle])]
            else:
                yield group, text


def inserted_row(job: Job) -> Row:
    """What the statement is told of a job; most fields have their default."""
    require_insertable(job)
    row: Row = {"queue": job.queue, "worker": job.worker}
    if job.args:
        row["args"] = job.args
    if job.meta:
        row["meta"] = own_meta(job)
    if job.tags:
        row["tags"] = job.tags
    if job.priority:
        row["priority"] = job.priority
    if job.max_attempts != DEFAULT_ATTEMPTS:
        row["max_attempts"] = job.max_attempts
    if job.scheduled_at is not None:
        row["scheduled_at"] = job.scheduled_at.timestamp()
    if job.state is JobState.SUSPENDED:
        row["suspended"] = True
    return row


def own_meta(job: Job) -> Mapping[str, Any]:
    """Without what says that a job is unique: a copy of another job's meta makes none so."""
    if "uniq_key" not in job.meta:
        return job.meta
    return {name: value for name, value in job.meta.items() if name not in MARKS}


def require_insertable(job: Job) -> None:
    if job.state not in INSERTABLE:
        raise InvalidJob(
            f"a job that is {job.state} cannot be inserted; "
            f"insert it {', '.join(INSERTABLE[:-1])} or {INSERTABLE[-1]}"
        )
