"""This project."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from protocol import Args, Order, Recorder, main

from oban import Job, Oban, Worker, schema, worker

record: Recorder
QUEUE = "default"


@worker(queue=QUEUE)
class Recording(Worker):
    async def process(self, job: Job) -> None:
        record(job.args)


@worker(queue=QUEUE)
class Failing(Worker):
    """Fails on its first attempt and is tried again at once."""

    async def process(self, job: Job) -> None:
        if job.attempt == 1:
            raise RuntimeError("always the first time")
        record(job.args)

    def backoff(self, job: Job) -> float:
        return 0


class ObanAdapter:
    oban: Oban
    order: Order

    async def prepare(self, order: Order) -> None:
        await schema.install(order.dsn)

    async def open(self, order: Order) -> None:
        self.order = order
        self.worker = (Failing if order.fail else Recording).options(unique=order.unique)
        self.oban = await Oban(pool=order.dsn).start()

    async def close(self) -> None:
        await self.oban.stop()

    async def enqueue(self, args: Args, *, priority: int = 0, delay: float = 0.0) -> None:
        job = self.worker.new(args, priority=priority, schedule_in=delay or None)
        await self.oban.enqueue(job, notify=self.order.notify)

    async def enqueue_many(self, many: Sequence[Args], priorities: Sequence[int]) -> None:
        jobs = (
            self.worker.new(args, priority=priority)
            for args, priority in zip(many, priorities, strict=True)
        )
        await self.oban.enqueue_stream(jobs, notify=self.order.notify)

    async def enqueue_stream(self, many: Iterable[Args]) -> None:
        jobs = (self.worker.new(args) for args in many)
        await self.oban.enqueue_stream(jobs, notify=self.order.notify)

    async def work(self, order: Order, ready: Callable[[], None]) -> None:
        global record
        record = Recorder(order.records)
        idle = {f"idle_{index}": order.concurrency for index in range(order.idle_queues)}
        pruner = {"interval": 1.0} if order.prune else {}
        queues = {QUEUE: order.concurrency, **idle}
        async with Oban(pool=order.dsn, queues=queues, pruner=pruner):
            ready()
            await asyncio.Event().wait()


if __name__ == "__main__":
    main(ObanAdapter())
