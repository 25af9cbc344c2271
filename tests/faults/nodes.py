"""A program that runs queues as a real process, and jobs that tell a table of the test's they ran.

Run as `python -m tests.faults.nodes DSN QUEUES NODE`; it prints `ready` and stops on SIGTERM.
"""

import asyncio
import signal
import sys
from typing import Any

import psycopg

from oban import Job, Oban, Worker, telemetry, worker

#: Written outside the queue's own tables: what really ran, whatever those say.
RUNS = (
    "create table if not exists runs (n int, attempt int, node text, at timestamptz default now())"
)

NODE = sys.argv[3] if __name__ == "__main__" else "test"


class Ledger:
    """Notes runs through one connection of its own, several at a time, each before its ack."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.waiting: list[tuple[tuple[int, int], asyncio.Future[None]]] = []
        self.writer: asyncio.Task[None] | None = None

    async def note(self, n: int, attempt: int) -> None:
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(((n, attempt), written))
        if self.writer is None or self.writer.done():
            self.writer = asyncio.create_task(self.write())
        await written

    async def write(self) -> None:
        batch: list[tuple[tuple[int, int], asyncio.Future[None]]] = []
        try:
            connection = await psycopg.AsyncConnection.connect(
                self.dsn, autocommit=True, prepare_threshold=None
            )
            async with connection, connection.cursor() as cursor:
                while self.waiting:
                    batch, self.waiting = self.waiting, []
                    await cursor.executemany(
                        "insert into runs (n, attempt, node) values (%s, %s, %s)",
                        [(n, attempt, NODE) for (n, attempt), _ in batch],
                    )
                    for _, written in batch:
                        written.set_result(None)
                    batch = []
                    await asyncio.sleep(0)
        except psycopg.Error as error:
            # The server went away: these jobs fail, and are tried again.
            failed, self.waiting = batch + self.waiting, []
            for _, written in failed:
                written.set_exception(error)


LEDGERS: dict[str, Ledger] = {}


@worker()
class Noting(Worker):
    async def process(self, job: Job) -> None:
        dsn = job.args["dsn"]
        ledger = LEDGERS.setdefault(dsn, Ledger(dsn))
        await ledger.note(job.args["n"], job.attempt)
        if seconds := job.args.get("seconds"):
            await asyncio.sleep(seconds)

    def backoff(self, job: Job) -> float:
        return 0.3


def report(name: str, metadata: telemetry.Metadata) -> None:
    print(name, {key: value for key, value in metadata.items() if key != "traceback"}, flush=True)


async def main(dsn: str, queues: str) -> None:
    telemetry.attach("nodes", ["oban.producer.stale", "oban.producer.reconcile"], report)
    limits: dict[str, Any] = {name: int(limit) for name, _, limit in each(queues)}
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Oban(pool=dsn, queues=limits, node=NODE, worker_modules=["tests.faults.nodes"]):
        print("ready", flush=True)
        await stop.wait()
    print("stopped", flush=True)


def each(queues: str) -> list[tuple[str, str, str]]:
    return [text.partition(":") for text in queues.split(",")]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
