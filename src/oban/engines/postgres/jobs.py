"""The verbs of a client for jobs that exist: cancel, retry, delete, update."""

# What a verb builds has annotations too, which would be evaluated at each call.
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from oban.engines.jobs import Retried
from oban.engines.postgres.inserts import InsertVerbs
from oban.engines.postgres.rows import read_job
from oban.engines.postgres.statements import PostgresOperation, Steps
from oban.errors import InvalidJob
from oban.fields import encode
from oban.job import Job, clean_changes
from oban.states import JobState, states_before


class JobVerbs(InsertVerbs):
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

    def retry(self, ids: Sequence[int]) -> PostgresOperation[Retried]:
        wanted = sorted(set(ids))
        states = states_before(JobState.AVAILABLE)

        def steps() -> Steps[Retried]:
            if not wanted:
                return Retried([])
            rows = yield self.sql(
                "retry_jobs",
                ids=wanted,
                states=[str(state) for state in states if state is not JobState.EXECUTING],
                insert_channel=self.channels.insert,
            )
            return Retried(
                sorted(identity for identity, retried, _ in rows if retried),
                sorted(identity for identity, retried, _ in rows if not retried),
            )

        return PostgresOperation("retry_jobs", steps)

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
