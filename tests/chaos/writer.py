"""A process that enqueues unique jobs of few keys: `python -m tests.chaos.writer DSN SECONDS SEED`

One at a time and many at once, and now and then it retries, cancels or deletes what it finds.
Prints how many it has inserted, how many were there already, and how often it gave way.
"""

import asyncio
import random
import sys
import time

from tests.chaos.node import Keyed

from oban import Job, Oban
from oban.engines.reads import JobFilter
from oban.errors import Contended

KEYS = 1_000


class Writer:
    def __init__(self, oban: Oban, chance: random.Random) -> None:
        self.oban = oban
        self.chance = chance
        self.inserted = self.conflicted = self.gave_way = 0

    def make(self) -> Job:
        return Keyed.new({"key": self.chance.randrange(KEYS)}, max_attempts=5)

    async def enqueue(self) -> None:
        many = self.chance.choice([0, 0, 0, self.chance.randrange(2, 200)])
        try:
            if many:
                jobs = await self.oban.enqueue_many([self.make() for _ in range(many)])
            else:
                jobs = [await self.oban.enqueue(self.make())]
        except Contended:
            self.gave_way += 1
            return
        self.conflicted += sum(job.conflicted for job in jobs)
        self.inserted += sum(not job.conflicted for job in jobs)

    async def disturb(self) -> None:
        states = ["completed", "cancelled", "discarded", "retryable", "scheduled"]
        found = await self.oban.list_jobs(JobFilter(states=states, limit=20))
        verbs = [
            self.oban.retry_many_jobs,
            self.oban.cancel_many_jobs,
            self.oban.delete_many_jobs,
        ]
        await self.chance.choice(verbs)(self.chance.sample(found, len(found) // 2))


async def main(dsn: str, seconds: float, seed: str) -> None:
    async with Oban(pool=dsn, name=f"writer {seed}") as oban:
        writer = Writer(oban, random.Random(seed))  # not for secrets
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            await (writer.enqueue() if writer.chance.random() < 0.95 else writer.disturb())
    print(writer.inserted, writer.conflicted, writer.gave_way, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), sys.argv[3]))
