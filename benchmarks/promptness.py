"""How late do scheduled jobs start? `python -m benchmarks.promptness`

500 jobs due in 0.2 to 3 s are inserted by another process, one statement each.
"""

import asyncio
import sys
from datetime import timedelta

from benchmarks.server import fresh_server, quantile
from oban import Job, Oban, job
from oban.engines.values import JobFilter

JOBS = 500


@job()
async def nothing() -> None:
    pass


async def insert(dsn: str) -> None:
    """What the other process does: one statement for each job, as a web application would."""
    async with Oban(pool=dsn) as oban:
        for number in range(JOBS):
            await oban.enqueue(nothing.new(schedule_in=0.2 + 2.8 * ((number * 37) % JOBS) / JOBS))


async def main(dsn: str) -> None:
    async with Oban(pool=dsn, queues={"default": 20}, worker_modules=["benchmarks"]) as oban:
        command = [sys.executable, "-m", "benchmarks.promptness", dsn]
        other = await asyncio.create_subprocess_exec(*command)
        assert await other.wait() == 0
        done: list[Job] = []
        while len(done) < JOBS:
            await asyncio.sleep(0.5)
            done = await oban.list_jobs(JobFilter(states=["completed"], limit=JOBS))
    late = []
    for each in done:
        assert each.attempted_at is not None
        assert each.scheduled_at is not None
        late.append((each.attempted_at - each.scheduled_at) / timedelta(milliseconds=1))
    figures = "  ".join(f"p{int(q * 100)} {quantile(late, q):.1f} ms" for q in (0.5, 0.95, 0.99))
    print(f"{JOBS} scheduled jobs started late by {figures}, at most {max(late):.1f} ms")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(insert(sys.argv[1]))
    else:
        with fresh_server() as dsn:
            asyncio.run(main(dsn))
