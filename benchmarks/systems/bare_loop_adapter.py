"""The limit in Python: one connection, one statement that completes and claims, a task each job.

It claims only for slots that are free, and knows neither errors nor a second process that died.
"""

import asyncio
import json
from collections.abc import Callable, Sequence

import psycopg
from bare import INSERT_MANY, INSERT_ONE, TABLE, TURN
from protocol import Args, Order, Recorder, main

BULK = 5_000


class BareLoopAdapter:
    connection: psycopg.AsyncConnection

    async def prepare(self, order: Order) -> None:
        async with await psycopg.AsyncConnection.connect(order.dsn, autocommit=True) as connection:
            await connection.execute(TABLE)

    async def open(self, order: Order) -> None:
        self.connection = await psycopg.AsyncConnection.connect(order.dsn, autocommit=True)
        self.bulk = order.batch if order.batch > 1 else BULK

    async def close(self) -> None:
        await self.connection.close()

    async def enqueue(self, args: Args, *, priority: int = 0, delay: float = 0.0) -> None:
        cursor = psycopg.AsyncRawCursor(self.connection)
        await cursor.execute(INSERT_ONE, [json.dumps(args)])
        await cursor.fetchone()

    async def enqueue_many(self, many: Sequence[Args], priorities: Sequence[int]) -> None:
        cursor = psycopg.AsyncRawCursor(self.connection)
        for start in range(0, len(many), self.bulk):
            rows = [{"args": args} for args in many[start : start + self.bulk]]
            await cursor.execute(INSERT_MANY, [json.dumps(rows)])
            await cursor.fetchall()

    async def work(self, order: Order, ready: Callable[[], None]) -> None:
        record = Recorder(order.records)
        await self.open(order)
        cursor = psycopg.AsyncRawCursor(self.connection)
        done: list[int] = []
        running: set[asyncio.Task[None]] = set()
        wake = asyncio.Event()

        async def run(identity: int, args: Args) -> None:
            record(args)
            done.append(identity)

        def finish(task: asyncio.Task[None]) -> None:
            running.discard(task)
            wake.set()

        ready()
        while True:
            saved, done[:] = done[:], []
            await cursor.execute(TURN, [saved, order.concurrency - len(running)])
            for identity, args in await cursor.fetchall():
                task = asyncio.create_task(run(identity, args))
                running.add(task)
                task.add_done_callback(finish)
            if not running and not done:
                await asyncio.sleep(0.01)
                continue
            await wake.wait()
            wake.clear()


if __name__ == "__main__":
    main(BareLoopAdapter())
