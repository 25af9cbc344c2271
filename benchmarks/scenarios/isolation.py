"""Whether a flood of failing jobs delays another queue of the same node."""

import asyncio
from datetime import timedelta
from types import MappingProxyType

import psycopg

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.figures import Budget, own_extra
from benchmarks.measurement import Invalid, Measurement, Void, quantile
from benchmarks.scenarios.scenario import Scenario
from oban import Job, Oban, Worker, job, worker
from oban.engines.reads import JobFilter

FLOOD = 100_000
SAMPLES = {"quick": 80, "full": 300}
PAUSE = 0.03
#: For each queue the jobs, and those that neither wait untried nor ended by their only attempt.
ROWS = """
select queue, count(*), count(*) filter (where (cast(state as text), attempt) not in (
  ('available', 0), (case queue when 'quick' then 'completed' else 'discarded' end, 1)
)) from oban_jobs group by queue order by queue
"""


class Isolation(Scenario):
    name = "isolation"
    title = "start delay of a queue beside 100,000 failing jobs, p95"
    group = "Latency"
    unit = "ms"
    details = MappingProxyType({"alone": "alone"})
    higher_is_better = False
    quick = "ours"
    full = "ours"
    once = True
    budgets = (
        Budget(
            "<= the larger of 3x alone and 25 ms",
            own_extra("isolation", "of_bound"),
            1,
            at_most=True,
        ),
    )

    def run(self, system: System, bench: Bench) -> Measurement:
        with bench.store(system) as store:
            return asyncio.run(measure(store.dsn, SAMPLES[bench.size.name]))


@worker(queue="failing", max_attempts=1)
class Failing(Worker):
    async def process(self, job: Job) -> None:
        raise RuntimeError("always")


@job(queue="quick")
async def quick() -> None:
    pass


async def measure(dsn: str, samples: int) -> Measurement:
    queues = {"failing": 20, "quick": 5}
    async with Oban(pool=dsn, queues=queues, worker_modules=[__name__]) as oban:
        alone = await delays(oban, samples)
        await oban.enqueue_stream(Failing.new({"n": n}) for n in range(FLOOD))
        beside = await delays(oban, samples)
        waiting = await oban.list_jobs(JobFilter(states=["available"], queue="failing", limit=1))
    if not waiting:
        raise Invalid("the flood was over before the samples were: they were not beside it")
    require_once(dsn, samples)
    before, during = quantile(alone, 0.95), quantile(beside, 0.95)
    bound = max(3 * before, 25.0)
    extras = {"alone": before, "of_bound": during / bound}
    return Measurement(during, extras)


def require_once(dsn: str, samples: int) -> None:
    """Raise `Void` unless each job is there, and none began twice.

    Those of the flood that wait, or were given back when the node stopped, have not begun.
    """
    with psycopg.connect(dsn) as connection:
        found = connection.execute(ROWS).fetchall()
    if found != [("failing", FLOOD, 0), ("quick", 2 * samples, 0)]:
        raise Void(f"void: queue, jobs and those of an unexpected end are {found}")


async def delays(oban: Oban, samples: int) -> list[float]:
    """Milliseconds from enqueue to start, one job at a time, by the database's clock."""
    found = []
    for _ in range(samples):
        enqueued = await oban.enqueue(quick.new())
        await asyncio.sleep(PAUSE)
        done = await oban.get_job(enqueued)
        while done is None or done.state != "completed":
            await asyncio.sleep(0.01)
            done = await oban.get_job(enqueued)
        assert done.attempted_at is not None
        assert done.inserted_at is not None
        found.append((done.attempted_at - done.inserted_at) / timedelta(milliseconds=1))
    return found
