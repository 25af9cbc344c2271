"""saq on PostgreSQL, told of new jobs rather than polling.

Its table is durable and finished jobs are kept for ten minutes, its default. Times are whole
seconds there: a scheduled job is due at the next one.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from conninfo import as_url
from protocol import Args, Order, Recorder, main
from saq import Job, Queue, Worker

record: Recorder

logging.getLogger("saq").setLevel(logging.CRITICAL)


async def run(context: dict[str, Any], *, args: Args) -> None:
    record(args)


async def fail_first(context: dict[str, Any], *, args: Args) -> None:
    if context["job"].attempts == 1:
        raise RuntimeError("always the first time")
    record(args)


class SaqAdapter:
    queue: Queue
    order: Order

    async def prepare(self, order: Order) -> None:
        await self.open(order)
        await self.close()

    async def open(self, order: Order) -> None:
        self.order = order
        self.queue = Queue.from_url(as_url(order.dsn))
        await self.queue.connect()

    async def close(self) -> None:
        await self.queue.disconnect()

    async def enqueue(self, args: Args, *, priority: int = 0, delay: float = 0.0) -> None:
        function, retries = ("fail_first", 2) if self.order.fail else ("run", 1)
        due = math.ceil(time.time() + delay) if delay else 0
        job = Job(
            function, kwargs={"args": args}, priority=priority, retries=retries, scheduled=due
        )
        await self.queue.enqueue(job)

    async def enqueue_many(self, many: Sequence[Args], priorities: Sequence[int]) -> None:
        raise NotImplementedError("saq inserts one at a time")

    async def work(self, order: Order, ready: Callable[[], None]) -> None:
        """The worker handles SIGTERM by itself."""
        global record
        record = Recorder(order.records)
        await self.open(order)
        worker = Worker(self.queue, [run, fail_first], concurrency=order.concurrency)
        asyncio.get_running_loop().call_soon(ready)
        await worker.start()
        await self.close()


if __name__ == "__main__":
    main(SaqAdapter())
