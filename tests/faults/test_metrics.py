"""What was counted is what the table says, whoever was killed meanwhile."""

import asyncio
import json
import random
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.faults.processes import Process
from tests.running.support import eventually

from oban import Oban

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

SETTINGS = {
    "queues": {"default": 10},
    "refresher": {"interval": 0.3, "max_age": 1.0},
    "lifeline": {"max_crashes": 0},
    "metrics": {"interval": 0.2},
    "pruner": {"enabled": False},
}
JOBS = 3_000

ENQUEUE = """
insert into oban_jobs (worker, max_attempts, args)
select
  case when n %% 10 = 0 then 'tests.chaos.node.Missing' else 'tests.chaos.node.Plain' end,
  case when n %% 7 = 0 then 1 else 50 end, jsonb_build_object('n', n, 'seconds', 0.05)
from generate_series(1, %s) as n
"""
#: What has ended, as the table has it.
IN_TABLE = """
select queue, worker, coalesce(attempted_by[1], ''), state::text, count(*)::int from oban_jobs
where state in ('completed', 'cancelled', 'discarded') group by 1, 2, 3, 4
"""
COUNTED = """
select queue, worker, node, state, sum(finished)::int from oban_metrics
where grain = 'minute' group by 1, 2, 3, 4 having sum(finished) > 0
"""


def asked(dsn: str, query: str) -> set[Any]:
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        return set(connection.execute(query.encode()).fetchall())


async def test_what_was_counted_is_what_the_table_says(oban_dsn: str, tmp_path: Path) -> None:
    """Three nodes, of which one after the other is killed, the leader too, and starts again."""
    chance = random.Random(11)
    names = iter(range(100))

    def node() -> Process:
        name = f"node{next(names)}"
        program = [sys.executable, "-m", "tests.chaos.node", oban_dsn, name]
        arguments = [str(tmp_path / f"records-{name}"), json.dumps(SETTINGS)]
        return Process(*program, *arguments, log=tmp_path / f"{name}.log")

    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute(ENQUEUE.encode(), [JOBS])
        connection.execute(
            "update oban_jobs set state = 'cancelled', cancelled_at = timezone('UTC', now()) "
            "where id in (select id from oban_jobs order by id desc limit 50)"
        )
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(node()) for _ in range(3)]
        for _ in range(8):
            await asyncio.sleep(chance.uniform(0.3, 1.0))
            nodes.pop(chance.randrange(3)).kill()
            nodes.append(await stack.enter_async_context(node()))

        async def done() -> bool:
            waiting = await asyncio.to_thread(
                asked, oban_dsn, "select 1 from oban_jobs where completed_at is null "
                "and cancelled_at is null and discarded_at is null and worker not like '%%Missing'"
            )  # fmt: skip
            return not waiting

        await eventually(done, 40)

        async def counted() -> bool:
            kept, there = await asyncio.gather(
                asyncio.to_thread(asked, oban_dsn, COUNTED),
                asyncio.to_thread(asked, oban_dsn, IN_TABLE),
            )
            assert sum(row[4] for row in kept) <= sum(row[4] for row in there)
            return bool(kept == there)

        await eventually(counted, 20)
    assert sum(row[4] for row in asked(oban_dsn, COUNTED)) >= JOBS * 0.9 - 50
    async with Oban(pool=oban_dsn) as client:
        found = await client.metrics("state")
        jobs = sum(sum(point.counts.values()) for each in found for point in each.points)
        assert jobs == sum(row[4] for row in asked(oban_dsn, IN_TABLE))
