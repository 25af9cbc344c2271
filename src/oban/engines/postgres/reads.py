"""The verbs that change nothing."""

from collections.abc import Sequence
from typing import Any

from oban.engines.base import JobFilter
from oban.engines.postgres.jobs import in_order
from oban.engines.postgres.rows import read_job
from oban.engines.postgres.statements import PostgresOperation, Steps
from oban.engines.postgres.verbs import Verbs
from oban.job import Job, encode


class ReadVerbs(Verbs):
    def get(self, ids: Sequence[int]) -> PostgresOperation[list[Job]]:
        wanted = list(dict.fromkeys(ids))

        def steps() -> Steps[list[Job]]:
            rows = yield self.sql("get_jobs", ids=wanted)
            return in_order(wanted, map(read_job, rows))

        return PostgresOperation("get", steps, repeatable=True)

    def search(self, wanted: JobFilter) -> PostgresOperation[list[Job]]:
        def steps() -> Steps[list[Job]]:
            rows = yield self.sql(
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
            return [read_job(row) for row in rows]

        return PostgresOperation("search", steps, repeatable=True)


def as_list(values: Sequence[str] | None) -> list[str] | None:
    return [str(value) for value in values] if values else None


def as_json(value: Any) -> str | None:
    return encode(value) if value else None
