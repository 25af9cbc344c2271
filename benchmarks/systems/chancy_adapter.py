"""chancy with its executor for coroutines and its default plugins.

Its tables are durable and its pruner deletes finished jobs now and then, its defaults. Outcomes are
written once a second: jobs that ended since then run again after a crash. The queue asks for more
as soon as a job ends, the option it has for queues that are never empty.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from chancy import Chancy, Job, Queue, QueuedJob, Worker
from protocol import Args, Order, Recorder, main

record: Recorder
QUEUE = "default"
BULK = 1_000

quiet = logging.getLogger("quiet")
quiet.setLevel(logging.CRITICAL)


async def run(*, args: Args) -> None:
    record(args)


async def fail_first(*, args: Args, context: QueuedJob) -> None:
    if context.attempts == 0:
        raise RuntimeError("always the first time")
    record(args)


class ChancyAdapter:
    chancy: Chancy
    order: Order

    async def prepare(self, order: Order) -> None:
        async with Chancy(order.dsn, log=quiet) as chancy:
            await chancy.migrate()
            await chancy.declare(queue(order))

    async def open(self, order: Order) -> None:
        self.order = order
        self.chancy = Chancy(order.dsn, log=quiet)
        await self.chancy.pool.open()

    async def close(self) -> None:
        await self.chancy.pool.close()

    def job(self, args: Args, priority: int) -> Job:
        """Higher numbers go first there."""
        func, attempts = (fail_first, 2) if self.order.fail else (run, 1)
        return Job.from_func(
            func, kwargs={"args": args}, priority=-priority, max_attempts=attempts, queue=QUEUE
        )

    async def enqueue(self, args: Args, *, priority: int = 0, delay: float = 0.0) -> None:
        job = self.job(args, priority)
        if delay:
            job = job.with_scheduled_at(datetime.now(UTC) + timedelta(seconds=delay))
        await self.chancy.push(job)

    async def enqueue_many(self, many: Sequence[Args], priorities: Sequence[int]) -> None:
        jobs = [self.job(args, priority) for args, priority in zip(many, priorities, strict=True)]
        async for _ in self.chancy.push_many(jobs, batch_size=BULK):
            pass

    async def work(self, order: Order, ready: Callable[[], None]) -> None:
        global record
        record = Recorder(order.records)
        async with Chancy(order.dsn, log=quiet) as chancy:
            await chancy.declare(queue(order), upsert=True)
            async with Worker(chancy) as worker:
                ready()
                await worker.wait_for_shutdown()


def queue(order: Order) -> Queue:
    return Queue(
        QUEUE,
        concurrency=order.concurrency,
        executor=Chancy.Executor.Async,
        eager_polling=True,
    )


if __name__ == "__main__":
    main(ChancyAdapter())
