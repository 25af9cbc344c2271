"""The limit of the database: the statements alone, a batch after the other on one connection.

Nothing runs; the records are written a batch at a time.
"""

import asyncio
import time
from collections.abc import Callable

import psycopg
from bare import TURN
from bare_loop_adapter import BareLoopAdapter
from protocol import Order, Recorder, main


class BareSqlAdapter(BareLoopAdapter):
    async def work(self, order: Order, ready: Callable[[], None]) -> None:
        record = Recorder(order.records)
        await self.open(order)
        cursor = psycopg.AsyncRawCursor(self.connection)
        ready()
        done: list[int] = []
        while True:
            await cursor.execute(TURN, [done, order.concurrency], binary=True)
            rows = await cursor.fetchall()
            done = [identity for identity, _ in rows]
            now = time.monotonic_ns()
            record.write("".join(f"{args['n']} {now} 0\n" for _, args in rows))
            if not rows:
                await asyncio.sleep(0.01)


if __name__ == "__main__":
    main(BareSqlAdapter())
