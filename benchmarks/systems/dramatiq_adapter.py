"""dramatiq on Redis, with a thread for each job that runs at once.

What is durable is what Redis makes so; a message is acknowledged when its actor has ended. Actors
are plain functions: a coroutine would hold its thread all the same. Priorities belong to an actor
and order only what a worker has fetched already, so they are not measured; nor are failing jobs,
since of a thousand that were tried again at once two were missing in some runs.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from protocol import Args, Order, Recorder, main

record: Recorder

logging.getLogger("dramatiq").setLevel(logging.CRITICAL + 1)


def run(args: Args) -> None:
    record(args)


class DramatiqAdapter:
    broker: RedisBroker

    async def prepare(self, order: Order) -> None:
        await self.open(order)
        self.broker.client.flushall()

    async def open(self, order: Order) -> None:
        self.order = order
        self.broker = RedisBroker(url=order.dsn)
        dramatiq.set_broker(self.broker)
        self.actor = dramatiq.actor(run, actor_name="bench")

    async def close(self) -> None:
        self.broker.close()

    async def enqueue(self, args: Args, *, priority: int = 0, delay: float = 0.0) -> None:
        """Callers at the same time are threads, since its client blocks."""
        message = self.actor.message(args)
        milliseconds = round(delay * 1e3) or None
        if self.order.how == "concurrent":
            await asyncio.to_thread(self.broker.enqueue, message, delay=milliseconds)
        else:
            self.broker.enqueue(message, delay=milliseconds)

    async def enqueue_many(self, many: Sequence[Args], priorities: Sequence[int]) -> None:
        raise NotImplementedError("dramatiq sends one at a time")

    async def work(self, order: Order, ready: Callable[[], None]) -> None:
        """The worker is the one that its command starts in each of its processes."""
        global record
        record = Recorder(order.records)
        await self.open(order)
        worker = dramatiq.Worker(self.broker, worker_threads=order.concurrency)
        worker.start()
        ready()
        try:
            await asyncio.Event().wait()
        finally:
            worker.stop()


if __name__ == "__main__":
    main(DramatiqAdapter())
