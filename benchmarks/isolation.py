"""Does a flood of failing jobs delay another queue? `python -m benchmarks.isolation`

Prints the quick queue's start delay, alone and beside 100,000 jobs that all fail.
"""

import asyncio
from datetime import timedelta

from benchmarks.server import fresh_server, quantile
from oban import Job, Oban, Worker, job, worker
from oban.engines.values import JobFilter

FLOOD = 100_000
SAMPLES = 300


@worker(queue="failing", max_attempts=1)
class Failing(Worker):
    async def process(self, job: Job) -> None:
        raise RuntimeError("always")


@job(queue="quick")
async def quick() -> None:
    pass


async def delays(oban: Oban) -> list[float]:
    """Milliseconds from enqueue to start, one job at a time, by the database's clock."""
    found = []
    for _ in range(SAMPLES):
        enqueued = await oban.enqueue(quick.new())
        await asyncio.sleep(0.03)
        done = await oban.get_job(enqueued)
        while done is None or done.state != "completed":
            await asyncio.sleep(0.01)
            done = await oban.get_job(enqueued)
        assert done.attempted_at is not None
        assert done.inserted_at is not None
        found.append((done.attempted_at - done.inserted_at) / timedelta(milliseconds=1))
    return found


async def main(dsn: str) -> None:
    queues = {"failing": 20, "quick": 5}
    async with Oban(pool=dsn, queues=queues, worker_modules=["benchmarks"]) as oban:
        alone = await delays(oban)
        inserted = await oban.enqueue_stream(Failing.new({"n": n}) for n in range(FLOOD))
        beside = await delays(oban)
        waiting = await oban.list_jobs(JobFilter(states=["available"], queue="failing", limit=1))
    for name, values in (("alone", alone), (f"beside {inserted:,} failing jobs", beside)):
        figures = "  ".join(f"p{int(q * 100)} {quantile(values, q):6.1f} ms" for q in (0.5, 0.95))
        print(f"{name:32} {figures}")
    print(f"the flood was {'still going' if waiting else 'over'} at the end of the measurement")
    bound = max(3 * quantile(alone, 0.95), 25.0)
    print(f"bound: the larger of 3x alone and 25 ms, which is {bound:.1f} ms")


if __name__ == "__main__":
    with fresh_server() as dsn:
        asyncio.run(main(dsn))
