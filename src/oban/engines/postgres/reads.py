"""The verbs that change nothing."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from oban.engines.postgres.jobs import in_order
from oban.engines.postgres.rows import read_job
from oban.engines.postgres.statements import PostgresOperation, Statement, Steps
from oban.engines.postgres.verbs import Verbs
from oban.engines.reads import JobCount, JobFilter
from oban.fields import encode
from oban.job import Job


class ReadVerbs(Verbs):
    def now(self) -> PostgresOperation[datetime]:
        def steps() -> Steps[datetime]:
            ((now,),) = yield self.sql("now")
            return datetime.fromtimestamp(now, UTC)

        return PostgresOperation("now", steps, repeatable=True)

    def get(self, ids: Sequence[int]) -> PostgresOperation[list[Job]]:
        wanted = list(dict.fromkeys(ids))

        def steps() -> Steps[list[Job]]:
            rows = yield self.sql("get_jobs", ids=wanted)
            return in_order(wanted, map(read_job, rows))

        return PostgresOperation("get", steps, repeatable=True)

    def search(self, wanted: JobFilter) -> PostgresOperation[list[Job]]:
        def steps() -> Steps[list[Job]]:
            rows = yield self.listing(wanted)
            return [read_job(row) for row in rows]

        return PostgresOperation("search", steps, repeatable=True)

    def search_ids(self, wanted: JobFilter) -> PostgresOperation[list[int]]:
        def steps() -> Steps[list[int]]:
            rows = yield ids_only(self.listing(wanted))
            return sorted((row[0] for row in rows), reverse=True)

        return PostgresOperation("search_ids", steps, repeatable=True)

    def listing(self, wanted: JobFilter) -> Statement:
        return self.sql(
            "list_jobs",
            before_id=wanted.before_id,
            states=as_list(wanted.states),
            queue=wanted.queue,
            worker=wanted.worker,
            tags=as_list(wanted.tags),
            args=as_json(wanted.args),
            meta=as_json(wanted.meta),
            priority=wanted.priority,
            limit=wanted.limit,
        )

    def lags(self, queues: Sequence[str]) -> PostgresOperation[dict[str, float]]:
        def steps() -> Steps[dict[str, float]]:
            rows = yield self.sql("queue_lags", queues=list(queues))
            return {queue: max(0.0, lag) for queue, lag in rows}

        return PostgresOperation("lags", steps, repeatable=True)

    def backlog(self) -> PostgresOperation[list[JobCount]]:
        def steps() -> Steps[list[JobCount]]:
            yield self.sql("plan_by_indexes")
            rows = yield self.sql("backlog")
            return [JobCount(queue, state, count) for queue, state, count in rows]

        return PostgresOperation("backlog", steps, transactional=True, repeatable=True)

    def counts(self) -> PostgresOperation[list[JobCount]]:
        def steps() -> Steps[list[JobCount]]:
            rows = yield self.sql("count_jobs")
            return [JobCount(queue, state, count) for queue, state, count in rows]

        return PostgresOperation("counts", steps, repeatable=True)


def ids_only(statement: Statement) -> Statement:
    """The same rows, of which the database reads nothing but the ids."""
    block = statement.sql
    narrow = replace(
        block,
        name=f"{block.name}_ids",
        numbered=f"select id from ({block.numbered}) as job",  # noqa: S608  # a block of our own
        named=f"select id from ({block.named}) as job",  # noqa: S608
    )
    return replace(statement, sql=narrow)


def as_list(values: Sequence[str] | None) -> list[str] | None:
    return [str(value) for value in values] if values else None


def as_json(value: Any) -> str | None:
    return encode(value) if value else None
