"""pgqueuer on asyncpg, its recommended driver.

Batches are half the slots, the largest that it allows: a smaller share costs more round trips. Its
tables are durable by default; a finished job is deleted and leaves a line in the log table.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

import asyncpg
from conninfo import as_url
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.executors import DatabaseRetryEntrypointExecutor
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from protocol import Args, Order, Recorder, main
from stopping import until_cancelled

NAME = "bench"
BULK = 10_000
CONNECTIONS = 10

Retrying = partial(DatabaseRetryEntrypointExecutor, initial_delay=timedelta())


class PgqueuerAdapter:
    connection: asyncpg.Connection | asyncpg.Pool
    queries: Queries

    async def prepare(self, order: Order) -> None:
        connection = await asyncpg.connect(as_url(order.dsn))
        await Queries(AsyncpgDriver(connection)).install()
        await connection.close()

    async def open(self, order: Order) -> None:
        """One connection, or a pool where many callers would wait for it."""
        url = as_url(order.dsn)
        if order.how == "concurrent":
            self.connection = await asyncpg.create_pool(
                url, min_size=CONNECTIONS, max_size=CONNECTIONS
            )
            self.queries = Queries(AsyncpgPoolDriver(self.connection))
        else:
            self.connection = await asyncpg.connect(url)
            self.queries = Queries(AsyncpgDriver(self.connection))

    async def close(self) -> None:
        await self.connection.close()

    async def enqueue(self, args: Args, *, priority: int = 0, delay: float = 0.0) -> None:
        due = timedelta(seconds=delay) if delay else None
        await self.queries.enqueue(NAME, json.dumps(args).encode(), -priority, due)

    async def enqueue_many(self, many: Sequence[Args], priorities: Sequence[int]) -> None:
        """Higher numbers go first there."""
        for start in range(0, len(many), BULK):
            payloads = [json.dumps(args).encode() for args in many[start : start + BULK]]
            ranks = [-priority for priority in priorities[start : start + BULK]]
            await self.queries.enqueue([NAME] * len(payloads), payloads, ranks)

    async def work(self, order: Order, ready: Callable[[], None]) -> None:
        record = Recorder(order.records)
        connection = await asyncpg.connect(as_url(order.dsn))
        queue = PgQueuer(AsyncpgDriver(connection))

        async def recording(job: Job) -> None:
            record(json.loads(job.payload or b"{}"))

        async def failing(job: Job) -> None:
            if job.attempts == 0:
                raise RuntimeError("always the first time")
            record(json.loads(job.payload or b"{}"))

        if order.fail:
            queue.entrypoint(NAME, executor_factory=Retrying)(failing)
        else:
            queue.entrypoint(NAME)(recording)
        running = queue.run(
            batch_size=max(1, order.concurrency // 2), max_concurrent_tasks=order.concurrency
        )
        asyncio.get_running_loop().call_soon(ready)
        await until_cancelled(running, queue.shutdown.set)
        await connection.close()


if __name__ == "__main__":
    main(PgqueuerAdapter())
