"""Inserting jobs: one, or many."""

# What a verb builds has annotations too, which would be evaluated at each call.
from __future__ import annotations

import json
from collections.abc import Sequence

from oban.engines.postgres.insert_rows import as_stored, chunked, own_meta, require_insertable
from oban.engines.postgres.rows import moment
from oban.engines.postgres.statements import PostgresOperation, Statement, Steps
from oban.engines.postgres.unique import UniqueVerbs
from oban.fields import encode
from oban.job import Job
from oban.states import SUSPENDED


class InsertVerbs(UniqueVerbs):
    def insert(
        self, jobs: Sequence[Job], *, notify: bool = True, patience: float | None = None
    ) -> PostgresOperation[list[Job]]:
        if any(job.unique for job in jobs):
            return self.insert_unique(jobs, notify=notify, patience=patience)
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
        meta = encode(own_meta(job)) if job.meta else "{}"
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
                suspended=job.state is SUSPENDED,
                **self.told(notify),
            )
            at = moment(inserted_at)
            assert at is not None
            written = {"args": json.loads(args), "meta": json.loads(meta)}
            return [as_stored(job, written, identity, at)]

        return PostgresOperation("insert", steps)

    def pour(
        self, jobs: Sequence[Job], *, notify: bool = True, patience: float | None = None
    ) -> PostgresOperation[int]:
        if any(job.unique for job in jobs):
            return self.pour_unique(jobs, notify=notify, patience=patience)
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
            "insert_jobs", jobs=payload, jobs_table=self.jobs_table, **self.told(notify)
        )
