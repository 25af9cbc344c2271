"""The published `oban` for Python by the API that its documentation shows.

Its tables are durable and completed jobs are kept for a day, its default.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from protocol import Args, Order, Recorder, main

from oban import Job, Oban, schema, worker

record: Recorder
QUEUE = "default"
BULK = 1_000
CONNECTIONS = 10


@worker(queue=QUEUE)
class Recording:
    async def process(self, job: Job) -> None:
        record(job.args)


@worker(queue=QUEUE)
class Failing:
    """Fails on its first attempt and is tried again at once."""

    async def process(self, job: Job) -> None:
        if job.attempt == 1:
            raise RuntimeError("always the first time")
        record(job.args)

    def backoff(self, job: Job) -> int:
        return 0


class PublishedAdapter:
    async def prepare(self, order: Order) -> None:
        await self.connect(order)
        await schema.install(self.pool)
        await self.pool.close()

    async def open(self, order: Order) -> None:
        await self.connect(order)
        self.worker: Any = Failing if order.fail else Recording
        self.oban = await Oban(pool=self.pool).start()

    async def connect(self, order: Order) -> None:
        self.pool = await Oban.create_pool(order.dsn, min_size=1, max_size=CONNECTIONS)

    async def close(self) -> None:
        await self.oban.stop()
        await self.pool.close()

    async def enqueue(self, args: Args, *, priority: int = 0, delay: float = 0.0) -> None:
        options = {"schedule_in": delay} if delay else {}
        await self.oban.enqueue(self.worker.new(args, priority=priority, **options))

    async def enqueue_many(self, many: Sequence[Args], priorities: Sequence[int]) -> None:
        for start in range(0, len(many), BULK):
            stop = start + BULK
            batch = zip(many[start:stop], priorities[start:stop], strict=True)
            jobs = [self.worker.new(args, priority=priority) for args, priority in batch]
            await self.oban.enqueue_many(jobs)

    async def work(self, order: Order, ready: Callable[[], None]) -> None:
        global record
        record = Recorder(order.records)
        await self.connect(order)
        async with Oban(pool=self.pool, queues={QUEUE: order.concurrency}):
            ready()
            await asyncio.Event().wait()


if __name__ == "__main__":
    main(PublishedAdapter())
