"""procrastinate on psycopg.

Its tables are durable and finished jobs are kept, its default. The worker stops by its own handler
of SIGTERM.
"""

import logging
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from procrastinate import App, JobContext, PsycopgConnector
from protocol import Args, Order, Recorder, main

record: Recorder
BULK = 5_000
CONNECTIONS = 10

# It warns of an app in a main module, which matters to its own command only.
logging.getLogger("procrastinate").setLevel(logging.CRITICAL)


async def run(**args: Any) -> None:
    record(args)


async def fail_first(context: JobContext, **args: Any) -> None:
    if context.job.attempts == 0:
        raise RuntimeError("always the first time")
    record(args)


class ProcrastinateAdapter:
    app: App

    async def prepare(self, order: Order) -> None:
        self.connect(order)
        async with self.app.open_async():
            await self.app.schema_manager.apply_schema_async()

    async def open(self, order: Order) -> None:
        self.connect(order)
        await self.app.open_async()

    def connect(self, order: Order) -> None:
        connector = PsycopgConnector(conninfo=order.dsn, min_size=1, max_size=CONNECTIONS)
        self.app = App(connector=connector)
        if order.fail:
            self.task = self.app.task(fail_first, name="bench", retry=1, pass_context=True)
        else:
            self.task = self.app.task(run, name="bench")

    async def close(self) -> None:
        await self.app.close_async()

    async def enqueue(self, args: Args, *, priority: int = 0, delay: float = 0.0) -> None:
        """Higher numbers go first there."""
        due = {"milliseconds": round(delay * 1e3)} if delay else None
        await self.task.configure(priority=-priority, schedule_in=due).defer_async(**args)

    async def enqueue_many(self, many: Sequence[Args], priorities: Sequence[int]) -> None:
        """A batch has one priority."""
        ranked = sorted(zip(priorities, many, strict=True), key=itemgetter(0))
        for priority, group in groupby(ranked, key=itemgetter(0)):
            batch = [args for _, args in group]
            configured = self.task.configure(priority=-priority)
            for start in range(0, len(batch), BULK):
                await configured.batch_defer_async(*batch[start : start + BULK])

    async def work(self, order: Order, ready: Callable[[], None]) -> None:
        global record
        record = Recorder(order.records)
        await self.open(order)
        ready()
        await self.app.run_worker_async(concurrency=order.concurrency)
        await self.close()


if __name__ == "__main__":
    main(ProcrastinateAdapter())
