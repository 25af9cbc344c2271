"""taskiq with the broker on Redis streams, which acknowledges; no results are kept, its default.

What is durable is what Redis makes so. A job that failed is sent again by the middleware that comes
with it; it has no priorities, and schedules need a process of their own.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Annotated

from protocol import Args, Order, Recorder, main
from redis.asyncio import Redis
from stopping import until_cancelled
from taskiq import Context, SimpleRetryMiddleware, TaskiqDepends
from taskiq.receiver import Receiver
from taskiq_redis import RedisStreamBroker

record: Recorder

logging.getLogger("taskiq").setLevel(logging.CRITICAL)


async def run(args: Args) -> None:
    record(args)


async def fail_first(args: Args, context: Annotated[Context, TaskiqDepends()]) -> None:
    if not context.message.labels.get("_retries"):
        raise RuntimeError("always the first time")
    record(args)


class TaskiqAdapter:
    broker: RedisStreamBroker

    async def prepare(self, order: Order) -> None:
        client = Redis.from_url(order.dsn)
        await client.flushall()
        await client.aclose()
        await self.open(order)
        await self.close()

    async def open(self, order: Order) -> None:
        """Starting makes the group of consumers, from whose making on jobs are seen."""
        self.connect(order)
        await self.broker.startup()

    def connect(self, order: Order) -> None:
        self.broker = RedisStreamBroker(order.dsn, consumer_id="0")
        if order.fail:
            self.broker.add_middlewares(SimpleRetryMiddleware(default_retry_count=2))
            self.task = self.broker.task(task_name="bench", retry_on_error=True)(fail_first)
        else:
            self.task = self.broker.task(task_name="bench")(run)

    async def close(self) -> None:
        await self.broker.shutdown()

    async def enqueue(self, args: Args, *, priority: int = 0, delay: float = 0.0) -> None:
        await self.task.kiq(args)

    async def enqueue_many(self, many: Sequence[Args], priorities: Sequence[int]) -> None:
        raise NotImplementedError("taskiq sends one at a time")

    async def work(self, order: Order, ready: Callable[[], None]) -> None:
        """The receiver is the one that its command starts in each of its processes."""
        global record
        record = Recorder(order.records)
        self.connect(order)
        self.broker.is_worker_process = True
        receiver = Receiver(self.broker, max_async_tasks=order.concurrency)
        finish = asyncio.Event()
        asyncio.get_running_loop().call_soon(ready)
        await until_cancelled(receiver.listen(finish), finish.set)
        await self.close()


if __name__ == "__main__":
    main(TaskiqAdapter())
