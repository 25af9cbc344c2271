"""The leader prunes, at once and then by its interval."""

from typing import Any

import psycopg
import pytest
from tests.running.support import Running, eventually, named

from oban import Job, Oban, Worker, worker
from oban.engines.reads import JobFilter

QUICK = {"interval": 0.2, "max_age": 1}


@worker()
class Done(Worker):
    async def process(self, job: Job) -> None: ...


@pytest.mark.parametrize(
    ("options", "gone"),
    [({}, True), ({"leadership": False}, False), ({"pruner": {"enabled": False}}, False)],
)
async def test_the_leader_prunes_unless_that_is_off(
    client: Oban, running: Running, events: list[Any], options: dict[str, Any], gone: bool
) -> None:
    options = {"pruner": {"max_age": 0, "interval": 0.1}, "refresher": QUICK, **options}
    async with running(**options) as oban:
        job = await client.enqueue(Done.new())

        async def ended() -> bool:
            found = await client.get_job(job)
            return found is None if gone else found is not None and found.state == "completed"

        await eventually(ended)
        assert oban.running_node is not None
        for _ in range(3):
            await oban.running_node.heart.beat()
        assert (await client.get_job(job) is None) == gone
    assert bool(named(events, "oban.pruner.prune.stop")) == gone


async def test_more_than_one_batch_is_pruned_at_once(
    client: Oban, running: Running, oban_dsn: str
) -> None:
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute("insert into oban_owned_queues values ('old')")
        connection.execute(
            "insert into oban_jobs (worker, queue, state, completed_at) select 'w', 'old', "
            "'completed', timezone('UTC', now()) - interval '2 days' from generate_series(1, 50)"
        )
    async with running(pruner={"limit": 20, "interval": 3600}):

        async def empty() -> bool:
            return not await client.list_jobs(JobFilter(queue="old"))

        await eventually(empty)
