"""What does a node cost that has nothing to do? `python -m benchmarks.idle`

Commits per second on the server, and the processor's time, of a node with five queues that leads.
"""

import asyncio
import time

import psycopg

from benchmarks.server import fresh_server
from oban import Oban

SECONDS = 30
QUEUES = ("alpha", "beta", "gamma", "delta", "epsilon")
COMMITS = "select xact_commit from pg_stat_database where datname = current_database()"


async def main(dsn: str) -> None:
    async with (
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection,
        Oban(pool=dsn, queues=dict.fromkeys(QUEUES, 10)),
    ):

        async def commits() -> int:
            row = await (await connection.execute(COMMITS)).fetchone()
            assert row is not None
            return int(row[0])

        # What starting needs is not counted; sessions report it after up to ten seconds.
        await asyncio.sleep(15)
        before, began = await commits(), time.process_time()
        await asyncio.sleep(SECONDS)
        made, used = await commits() - before - 1, time.process_time() - began
    print(
        f"5 idle queues: {made / SECONDS:.2f} commits/s (bound 1.5), "
        f"{used / SECONDS:.2%} of a core (bound 0.5 %)"
    )


if __name__ == "__main__":
    with fresh_server() as address:
        asyncio.run(main(address))
