"""The verbs of a client: insert, cancel, retry, delete, update."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from oban.engines.postgres.rows import moment, read_job
from oban.engines.postgres.statements import PostgresOperation, Steps
from oban.engines.postgres.verbs import Verbs
from oban.errors import InvalidJob
from oban.fields import encode
from oban.job import Job, JobState, clean_changes, states_before

MAX_INSERT_JOBS: Final = 10_000
MAX_INSERT_BYTES: Final = 16_000_000

INSERTABLE: Final = (JobState.AVAILABLE, JobState.SCHEDULED, JobState.SUSPENDED)


class JobVerbs(Verbs):
    def insert(self, jobs: Sequence[Job], *, notify: bool = True) -> PostgresOperation[list[Job]]:
        chunks = list(chunked(jobs))

        def steps() -> Steps[list[Job]]:
            inserted: list[Job] = []
            for chunk, payload in chunks:
                rows = yield self.sql(
                    "insert_jobs",
                    jobs=payload,
                    jobs_table=self.jobs_table,
                    insert_channel=self.channels.insert,
                    due_channel=self.channels.due,
                    due_within=self.due_within,
                    notify=notify,
                )
                stored = sorted(rows, key=lambda row: row[0])
                written = json.loads(payload)
                for job, values, row in zip(chunk, written, stored, strict=True):
                    _, identity, state, inserted_at, scheduled_at, *_ = row
                    inserted.append(
                        replace_stored(
                            job,
                            id=identity,
                            state=JobState(state),
                            args=values["args"],
                            meta=values["meta"],
                            inserted_at=moment(inserted_at),
                            scheduled_at=moment(scheduled_at),
                        )
                    )
            return inserted

        return PostgresOperation("insert", steps, transactional=len(chunks) > 1)

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


def replace_stored(job: Job, **values: Any) -> Job:
    """A copy with the database's values; the fields were validated when `job` was built."""
    kept = {name: getattr(job, name) for name in COPIED}
    copy = Job.restore(**kept, **values)
    copy.extra = dict(job.extra)
    return copy


COPIED: Final = (
    "queue",
    "worker",
    "attempt",
    "max_attempts",
    "priority",
    "tags",
    "errors",
    "attempted_by",
    "attempted_at",
    "completed_at",
    "cancelled_at",
    "discarded_at",
)


def chunked(jobs: Sequence[Job]) -> Iterator[tuple[Sequence[Job], str]]:
    """Split into what one statement takes, each part with its JSON; a huge job goes alone."""
    rows: list[str] = []
    size = start = 0
    for index, job in enumerate(jobs):
        row = encode(inserted_row(job, len(rows)))
        length = len(row) if row.isascii() else len(row.encode("utf-8"))
        if rows and (len(rows) == MAX_INSERT_JOBS or size + length > MAX_INSERT_BYTES):
            yield jobs[start:index], f"[{','.join(rows)}]"
            rows, size, start = [], 0, index
            row = encode(inserted_row(job, 0))
        rows.append(row)
        size += length
    if rows:
        yield jobs[start:], f"[{','.join(rows)}]"


def inserted_row(job: Job, position: int) -> dict[str, Any]:
    if job.state not in INSERTABLE:
        raise InvalidJob(
            f"a job that is {job.state} cannot be inserted; "
            f"insert it {', '.join(INSERTABLE[:-1])} or {INSERTABLE[-1]}"
        )
    scheduled_at = job.scheduled_at
    return {
        "position": position,
        "queue": job.queue,
        "worker": job.worker,
        "args": job.args,
        "meta": job.meta,
        "tags": job.tags,
        "priority": job.priority,
        "max_attempts": job.max_attempts,
        "scheduled_at": None if scheduled_at is None else scheduled_at.timestamp(),
        "suspended": job.state is JobState.SUSPENDED,
    }


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
