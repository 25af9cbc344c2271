"""The verbs of a client: insert, cancel, retry, delete, update."""

# What a verb builds has annotations too, which would be evaluated at each call.
from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from oban.engines.postgres.rows import moment, read_job
from oban.engines.postgres.statements import PostgresOperation, Statement, Steps
from oban.engines.postgres.verbs import Verbs
from oban.errors import InvalidJob
from oban.fields import encode
from oban.job import Job, clean_changes
from oban.states import JobState, states_before

MAX_INSERT_JOBS: Final = 10_000
MAX_INSERT_BYTES: Final = 16_000_000

#: Jobs that are written as JSON at once.
GROUP: Final = 100
#: What the statement takes where it is told of none.
DEFAULT_ATTEMPTS: Final = 20

INSERTABLE: Final = (JobState.AVAILABLE, JobState.SCHEDULED, JobState.SUSPENDED)


class JobVerbs(Verbs):
    def insert(self, jobs: Sequence[Job], *, notify: bool = True) -> PostgresOperation[list[Job]]:
        if len(jobs) == 1:
            return self.insert_one(jobs[0], notify=notify)
        chunks = list(chunked(jobs))

        def steps() -> Steps[list[Job]]:
            inserted: list[Job] = []
            for chunk, payload in chunks:
                ((ids, inserted_at, _),) = yield self.insertion(payload, notify=notify)
                at = moment(inserted_at)
                assert at is not None
                for job, written, identity in zip(chunk, json.loads(payload), ids, strict=True):
                    inserted.append(as_stored(job, written, identity, at))
            return inserted

        return PostgresOperation("insert", steps, transactional=len(chunks) > 1)

    def insert_one(self, job: Job, *, notify: bool) -> PostgresOperation[list[Job]]:
        require_insertable(job)
        args = encode(job.args) if job.args else "{}"
        meta = encode(job.meta) if job.meta else "{}"
        due = None if job.scheduled_at is None else job.scheduled_at.timestamp()

        def steps() -> Steps[list[Job]]:
            ((identity, inserted_at, _),) = yield self.sql(
                "insert_job",
                queue=job.queue,
                worker=job.worker,
                args=args,
                meta=meta,
                tags=job.tags,
                priority=job.priority,
                max_attempts=job.max_attempts,
                scheduled_at=due,
                suspended=job.state is JobState.SUSPENDED,
                insert_channel=self.channels.insert,
                due_channel=self.channels.due,
                due_within=self.due_within,
                notify=notify,
            )
            at = moment(inserted_at)
            assert at is not None
            written = {"args": json.loads(args), "meta": json.loads(meta)}
            return [as_stored(job, written, identity, at)]

        return PostgresOperation("insert", steps)

    def pour(self, jobs: Sequence[Job], *, notify: bool = True) -> PostgresOperation[int]:
        payloads = [payload for _, payload in chunked(jobs)]

        def steps() -> Steps[int]:
            count = 0
            for payload in payloads:
                ((ids, _, _),) = yield self.insertion(payload, notify=notify)
                count += len(ids)
            return count

        return PostgresOperation("insert", steps, transactional=len(payloads) > 1)

    def insertion(self, payload: str, *, notify: bool) -> Statement:
        return self.sql(
            "insert_jobs",
            jobs=payload,
            jobs_table=self.jobs_table,
            insert_channel=self.channels.insert,
            due_channel=self.channels.due,
            due_within=self.due_within,
            notify=notify,
        )

    def ring(self, queues: Sequence[str]) -> PostgresOperation[None]:
        def steps() -> Steps[None]:
            yield self.sql("ring", queues=list(queues), insert_channel=self.channels.insert)

        return PostgresOperation("ring", steps, repeatable=True)

    def cancel(self, ids: Sequence[int]) -> PostgresOperation[list[int]]:
        return self.change(
            "cancel_jobs",
            ids,
            states=[str(state) for state in states_before(JobState.CANCELLED)],
            signal_channel=self.channels.signal,
        )

    def retry(self, ids: Sequence[int]) -> PostgresOperation[list[int]]:
        states = states_before(JobState.AVAILABLE)
        return self.change(
            "retry_jobs",
            ids,
            states=[str(state) for state in states if state is not JobState.EXECUTING],
            insert_channel=self.channels.insert,
        )

    def delete(self, ids: Sequence[int]) -> PostgresOperation[list[int]]:
        return self.change("delete_jobs", ids)

    def change(
        self, name: str, ids: Sequence[int], **parameters: Any
    ) -> PostgresOperation[list[int]]:
        wanted = sorted(set(ids))

        def steps() -> Steps[list[int]]:
            if not wanted:
                return []
            rows = yield self.sql(name, ids=wanted, **parameters)
            return sorted(row[0] for row in rows)

        return PostgresOperation(name, steps)

    def update(
        self, ids: Sequence[int], changes: Callable[[Job], Mapping[str, Any]]
    ) -> PostgresOperation[list[Job]]:
        wanted = list(dict.fromkeys(ids))

        def steps() -> Steps[list[Job]]:
            if not wanted:
                return []
            locked = [read_job(row) for row in (yield self.sql("lock_jobs", ids=sorted(wanted)))]
            if not locked:
                return []
            rows = yield self.sql(
                "update_jobs",
                jobs=encode([changed_row(job, changes(job)) for job in locked]),
                insert_channel=self.channels.insert,
                due_channel=self.channels.due,
                due_within=self.due_within,
            )
            return in_order(wanted, map(read_job, rows))

        return PostgresOperation("update_jobs", steps, transactional=True)


def in_order(ids: Sequence[int], jobs: Iterator[Job]) -> list[Job]:
    found = {job.id: job for job in jobs}
    return [found[each] for each in ids if each in found]


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
    return stored


def chunked(jobs: Sequence[Job]) -> Iterator[tuple[Sequence[Job], str]]:
    """Split into what one statement takes, each part with its JSON; a huge job goes alone."""
    rows: list[str] = []
    size = start = end = 0
    for group, text in groups(jobs):
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


def groups(jobs: Sequence[Job]) -> Iterator[tuple[Sequence[Job], str]]:
    """Jobs with their JSON, many at a time, since a list is written in a fraction of the time."""
    most = min(GROUP, MAX_INSERT_JOBS)
    for start in range(0, len(jobs), most):
        waiting = [jobs[start : start + most]]
        while waiting:
            group = waiting.pop()
            text = encode([inserted_row(job) for job in group])[1:-1]
            if len(text) > MAX_INSERT_BYTES / 4 and len(group) > 1:
                middle = len(group) // 2
                waiting += [group[middle:], group[:middle]]
            else:
                yield group, text


def inserted_row(job: Job) -> dict[str, Any]:
    """What the statement is told of a job; most fields have their default."""
    require_insertable(job)
    row: dict[str, Any] = {"queue": job.queue, "worker": job.worker}
    if job.args:
        row["args"] = job.args
    if job.meta:
        row["meta"] = job.meta
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


def require_insertable(job: Job) -> None:
    if job.state not in INSERTABLE:
        raise InvalidJob(
            f"a job that is {job.state} cannot be inserted; "
            f"insert it {', '.join(INSERTABLE[:-1])} or {INSERTABLE[-1]}"
        )


def changed_row(job: Job, changes: Mapping[str, Any]) -> dict[str, Any]:
    """What `update` writes for one locked job. Raises InvalidJob and so undoes everything."""
    cleaned = clean_changes(changes)
    max_attempts = cleaned.get("max_attempts", job.max_attempts)
    if max_attempts < job.attempt:
        raise InvalidJob(
            f"max_attempts is {max_attempts}, but job {job.id} has had {job.attempt} "
            "attempts; give at least as many"
        )
    scheduled_at = cleaned.get("scheduled_at")
    return {
        **cleaned,
        "id": job.id,
        "scheduled_at": None if scheduled_at is None else scheduled_at.timestamp(),
    }
