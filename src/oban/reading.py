"""Asking: for jobs, for what was kept of them, and why one does not run. Nothing is changed."""

import asyncio
import time
from collections.abc import Iterable
from typing import Final

from oban.engines.base import Engine
from oban.engines.metrics import MetricFilter
from oban.engines.reads import JobFilter
from oban.engines.stacks import ToldStack
from oban.errors import InvalidJob, InvalidOption
from oban.explaining import explain
from oban.explanation import Explanation
from oban.fields import clean_text
from oban.job import Job
from oban.metrics import Scale, Series, Stat, clean_dimension, clean_seconds, path_of
from oban.states import JobState

JobOrId = Job | int

#: Seconds between two looks for an answer of a node.
STACK_PAUSE: Final = 0.05
#: Seconds that one look may take, however little is waited for an answer.
STACK_LOOK: Final = 1.0
#: Groups that are told of at most, unless more are asked for.
MOST_SERIES: Final = 20
MOST_STATS: Final = 50
#: Seconds that reading the table for a report may take.
STATS_PATIENCE: Final = 30.0
FOREVER: Final = 36_500 * 86_400
#: What may be asked for.
MOST_GROUPS: Final = 10_000


class Reader:
    """What works with or without queues, in the caller's transaction where `conn` is given."""

    def __init__(self, name: str, engine: Engine) -> None:
        self.name = name
        self.engine = engine

    async def get_job(self, job: JobOrId, *, conn: object = None) -> Job | None:
        """The job as it is now, None when there is none of that id."""
        found = await self.engine.execute(self.engine.get([id_of(job)]), conn)
        return found[0] if found else None

    def get_job_sync(self, job: JobOrId, *, conn: object = None) -> Job | None:
        found = self.engine.execute_sync(self.engine.get([id_of(job)]), conn)
        return found[0] if found else None

    async def list_jobs(self, wanted: JobFilter, *, conn: object = None) -> list[Job]:
        """The jobs that pass the filter, newest first."""
        return await self.engine.execute(self.engine.search(wanted), conn)

    async def metrics(
        self,
        by: str = "state",
        *,
        since: float = 3_600.0,
        step: float | None = None,
        queue: str | None = None,
        worker: str | None = None,
        node: str | None = None,
        state: str | None = None,
        limit: int = MOST_SERIES,
    ) -> list[Series]:
        """What ended in the last `since` seconds, as it was kept: by state, queue, worker or node.

        In steps of so many seconds, or as fine as makes up to 200 points. Of more than `limit`
        groups the rest is one, `*`.
        """
        scale = Scale.of(since, step)
        wanted = clean_filter(queue, worker, node, state, limit)
        return await self.engine.execute(self.engine.metrics(clean_dimension(by), scale, wanted))

    async def stats(
        self,
        by: str = "worker",
        *,
        since: float | None = None,
        queue: str | None = None,
        worker: str | None = None,
        node: str | None = None,
        state: str | None = None,
        limit: int = MOST_STATS,
        timeout: float = STATS_PATIENCE,
    ) -> list[Stat]:
        """The jobs in the table by worker, queue, node, state, or a path such as `args.tenant_id`.

        The `limit` groups with most jobs; with `since`, of jobs inserted in so many last seconds.
        Reads the whole table, and raises `TooSlow` where that takes longer than `timeout` seconds.
        """
        if since is not None:
            since = clean_seconds("since", since, least=0, most=FOREVER)
        patience = clean_seconds("timeout", timeout, least=0.001, most=86_400)
        wanted = clean_filter(queue, worker, node, state, limit)
        return await self.engine.execute(self.engine.stats(path_of(by), since, wanted, patience))

    async def job_stack(self, job: JobOrId, *, patience: float = 2.0) -> ToldStack | None:
        """Where the code of a running job is just now, as its node tells.

        None where nobody tells within `patience` seconds: it does not run, or its node hears no
        notifications.
        """
        job_id, engine = id_of(job), self.engine
        bound = max(patience, STACK_LOOK)
        asked_at = await engine.execute(engine.within(engine.ask_stack(job_id), bound))
        ends = time.monotonic() + patience
        while True:
            told = await engine.execute(engine.within(engine.told_stack(job_id), bound))
            if told is not None and told.told_at >= asked_at:
                return told
            if time.monotonic() >= ends:
                return None
            await asyncio.sleep(STACK_PAUSE)

    async def explain(self, job: JobOrId, *, conn: object = None) -> Explanation | None:
        """Why the job does not run, or ended as it did; None when there is none of that id."""
        facts = await self.engine.execute(self.engine.explain(id_of(job)), conn)
        return explain(facts) if facts else None

    def explain_sync(self, job: JobOrId, *, conn: object = None) -> Explanation | None:
        facts = self.engine.execute_sync(self.engine.explain(id_of(job)), conn)
        return explain(facts) if facts else None


def clean_filter(
    queue: object, worker: object, node: object, state: object, limit: object
) -> MetricFilter:
    """Raises InvalidOption for what no job can have, which would be as if there were none."""
    if state is not None and state not in list(JobState):
        raise InvalidOption(f"state is {state!r:.80}; it is one of {', '.join(JobState)}")
    given = {"queue": queue, "worker": worker, "node": node, "state": state}
    for name, value in given.items():
        if value is not None and not isinstance(value, str):
            hint = ", as `module.Name`" if name == "worker" else ""
            raise InvalidOption(f"{name} is {value!r:.80}; it is a name{hint}")
        if value is not None:
            clean_text(name, value)
    return MetricFilter(**given, limit=clean_limit(limit))  # type: ignore[arg-type]


def clean_limit(limit: object) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST_GROUPS:
        raise InvalidOption(f"limit is {limit!r:.80}; it is a whole number from 1 to {MOST_GROUPS}")
    return limit


def id_of(job: JobOrId) -> int:
    identity = job.id if isinstance(job, Job) else job
    if isinstance(identity, bool) or not isinstance(identity, int):
        raise InvalidJob(f"got {job!r:.80}; a job is named by its id, or by a job that has one")
    return identity


def ids_of(jobs: Iterable[JobOrId]) -> list[int]:
    return [id_of(job) for job in jobs]
