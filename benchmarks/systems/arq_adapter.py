"""arq on Redis, asking for jobs every 10 ms instead of twice a second.

With its default it would run no more than two batches a second. What is durable is what Redis makes
so; results are kept for an hour, its default. It has no priorities.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from arq import Retry, Worker, create_pool, func
from arq.connections import ArqRedis, RedisSettings
from protocol import Args, Order, Recorder, main

record: Recorder
NAME = "bench"

logging.getLogger("arq").setLevel(logging.CRITICAL)


async def run(context: dict[str, Any], args: Args) -> None:
    record(args)


async def fail_first(context: dict[str, Any], args: Args) -> None:
    """Only a failure that asks for it is tried again."""
    if context["job_try"] == 1:
        raise Retry
    record(args)


class ArqAdapter:
    redis: ArqRedis

    async def prepare(self, order: Order) -> None:
        await self.open(order)
        await self.redis.flushall()
        await self.close()

    async def open(self, order: Order) -> None:
        self.redis = await create_pool(RedisSettings.from_dsn(order.dsn))

    async def close(self) -> None:
        await self.redis.aclose()

    async def enqueue(self, args: Args, *, priority: int = 0, delay: float = 0.0) -> None:
        due = timedelta(seconds=delay) if delay else None
        await self.redis.enqueue_job(NAME, args, _defer_by=due)

    async def enqueue_many(self, many: Sequence[Args], priorities: Sequence[int]) -> None:
        raise NotImplementedError("arq sends one at a time")

    async def work(self, order: Order, ready: Callable[[], None]) -> None:
        global record
        record = Recorder(order.records)
        worker = Worker(
            functions=[func(fail_first if order.fail else run, name=NAME)],
            redis_settings=RedisSettings.from_dsn(order.dsn),
            max_jobs=order.concurrency,
            poll_delay=0.01,
            handle_signals=False,
        )
        ready()
        try:
            await worker.async_run()
        finally:
            await worker.close()


if __name__ == "__main__":
    main(ArqAdapter())
