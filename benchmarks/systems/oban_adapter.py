"""This project."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from protocol import Args, Order, Recorder, main

from oban import Job, Oban, Worker, schema, worker
from oban.options import QueueOptions

record: Recorder
QUEUE = "default"
PARTITION: Mapping[str, Any] = {"by": {"args": "tenant"}}
RATE: Mapping[str, Any] = {"allowed": 10_000_000, "period": 10}
#: The limits of the queue, none of which is ever reached.
LIMITS: Mapping[str, Mapping[str, Any]] = {
    "global": {"global_limit": 100_000},
    "partitions": {"global_limit": 100_000, "partition": PARTITION},
    "rate": {"rate_limit": RATE},
    "rates": {"rate_limit": RATE, "partition": PARTITION},
}
TENANTS = 100


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
        if order.limits == "shared":
            self.worker = self.worker.options(limits=["shared"])
        self.oban = await Oban(pool=order.dsn).start()
        queue = QueueOptions(**LIMITS.get(order.limits, {}))
        if order.limits:  # a node has run before, and has said what it is divided by
            opening = self.oban.engine.open_limits(QUEUE, queue.limits.partition, {}, overrule=True)
            await self.oban.engine.execute(opening)

    async def close(self) -> None:
        await self.oban.stop()

    async def enqueue(self, args: Args, *, priority: int = 0, delay: float = 0.0) -> None:
        job = self.worker.new(args, priority=priority, schedule_in=delay or None)
        await self.oban.enqueue(job, notify=self.order.notify)

    async def enqueue_many(self, many: Sequence[Args], priorities: Sequence[int]) -> None:
        jobs = (
            self.worker.new(self.with_tenant(args), priority=priority)
            for args, priority in zip(many, priorities, strict=True)
        )
        await self.oban.enqueue_stream(jobs, notify=self.order.notify)

    def with_tenant(self, args: Args) -> Args:
        """Who divides its jobs knows by what."""
        if self.order.limits in ("partitions", "rates"):
            return {**args, "tenant": int(args["n"]) % TENANTS}
        return args

    async def enqueue_stream(self, many: Iterable[Args]) -> None:
        jobs = (self.worker.new(args) for args in many)
        await self.oban.enqueue_stream(jobs, notify=self.order.notify)

    async def work(self, order: Order, ready: Callable[[], None]) -> None:
        global record
        record = Recorder(order.records)
        idle = {f"idle_{index}": order.concurrency for index in range(order.idle_queues)}
        pruner = {"interval": 1.0} if order.prune else {}
        own = {"limit": order.concurrency, **LIMITS.get(order.limits, {})}
        shared = {"shared": 100_000} if order.limits == "shared" else {}
        queues: dict[str, int | Mapping[str, Any]] = {QUEUE: own, **idle}
        metrics: bool | Mapping[str, Any] | None = None if order.metrics is None else False
        if order.metrics:
            metrics = {"interval": order.metrics}
        async with Oban(
            pool=order.dsn,
            queues=queues,
            pruner=pruner,
            limits=shared,
            metrics=metrics,
        ):
            ready()
            await asyncio.Event().wait()


if __name__ == "__main__":
    main(ObanAdapter())
