"""The backlog is what all the jobs are, without those that have ended."""

import psycopg
from tests.roads import direct

from oban import Job, JobState
from oban.engines.postgres import PostgresEngine
from oban.states import FINAL

#: A job that stands in a lane of its own.
LIMITED = {"limits": ["mail"]}


async def test_it_holds_the_jobs_of_every_state_that_is_no_end(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    kinds = [
        (queue, state, meta)
        for queue, count in (("a", 1), ("b", 2))
        for state in JobState
        for meta in ({}, LIMITED)
        for _ in range(count)
    ]
    jobs = [Job(worker="a.B", queue=queue, meta=dict(meta)) for queue, _, meta in kinds]
    inserted = await engine.execute(engine.insert(jobs))
    with psycopg.connect(direct(oban_dsn), autocommit=True) as connection:
        for job, (_, state, _) in zip(inserted, kinds, strict=True):
            query = "update oban_jobs set state = %s::text::oban_job_state where id = %s"
            connection.execute(query, [str(state), job.id])

    backlog = await engine.execute(engine.backlog())
    assert {(each.queue, each.state): each.count for each in backlog} == {
        (queue, state): 2 * count
        for queue, count in (("a", 1), ("b", 2))
        for state in JobState
        if state not in FINAL
    }
