"""How soon do the jobs of a killed node run again? `python -m benchmarks.rescue [ROUNDS]`

A node with ten running jobs is killed by SIGKILL: the only one, which is started again at once, or
one of three. Each with the defaults, and with a heartbeat every second.
"""

import argparse
import asyncio
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from statistics import median

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from benchmarks.server import fresh_server
from oban import Job, Oban, Worker, schema, worker

JOBS = 10
#: Seconds after which a round has failed.
MOST = 60
STARTS = "create table starts (job_id bigint, attempt int, at timestamptz default now())"


@worker()
class Endless(Worker):
    async def process(self, job: Job) -> None:
        connecting = psycopg.AsyncConnection.connect(job.args["dsn"], autocommit=True)
        async with await connecting as noting:
            values = [job.id, job.attempt]
            await noting.execute("insert into starts (job_id, attempt) values (%s, %s)", values)
        await asyncio.sleep(3600)


async def run_node(dsn: str, interval: float) -> None:
    """What a node's process does."""
    refresher = {"interval": interval} if interval else {}
    options = {"queues": {"default": JOBS}, "refresher": refresher}
    async with Oban(pool=dsn, worker_modules=["benchmarks"], **options):  # type: ignore[arg-type]
        print("ready", flush=True)
        await asyncio.sleep(3600)


async def start_node(dsn: str, interval: float) -> Process:
    command = [sys.executable, "-m", "benchmarks.rescue", "node", dsn, str(interval)]
    return await asyncio.create_subprocess_exec(*command, stdout=PIPE)


@asynccontextmanager
async def nodes(dsn: str, interval: float, count: int) -> AsyncIterator[list[Process]]:
    started = [await start_node(dsn, interval) for _ in range(count)]
    try:
        for node in started:
            assert node.stdout is not None
            assert await node.stdout.readline()
        yield started
    finally:
        for node in started:
            if node.returncode is None:
                node.send_signal(signal.SIGKILL)
                await node.wait()


async def measure(dsn: str, interval: float, count: int) -> float:
    """Seconds from the kill until each job of the killed node runs again."""
    async with (
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection,
        Oban(pool=dsn, name="client") as client,
    ):
        await connection.execute("truncate oban_jobs, oban_owners, oban_producers, starts")

        async def starts(attempt: int) -> int:
            query = "select count(*) from starts where attempt = %s"
            row = await (await connection.execute(query, [attempt])).fetchone()
            assert row is not None
            return int(row[0])

        async with nodes(dsn, interval, 1) as (victim,):
            await client.enqueue_many(Endless.new({"dsn": dsn}) for _ in range(JOBS))
            await reached(starts, 1)
            async with nodes(dsn, interval, count - 1) as others:
                # Long enough to be seen alive, and at another moment of the interval each time.
                await asyncio.sleep(1 + (interval or 3.0) * (time.time() % 1))
                victim.send_signal(signal.SIGKILL)
                killed_at = time.monotonic()
                if not others:
                    others.append(await start_node(dsn, interval))
                await reached(starts, 2)
                return time.monotonic() - killed_at


async def reached(starts: Callable[[int], Awaitable[int]], attempt: int) -> None:
    """Wait until every job runs for the `attempt`th time."""
    async with asyncio.timeout(MOST):
        while await starts(attempt) < JOBS:  # noqa: ASYNC110  # it is the database that is watched
            await asyncio.sleep(0.01)


Took = dict[tuple[int, int], list[float]]


async def measure_all(server: str, rounds: int) -> Took:
    """Seconds of each round by the interval of the heartbeat (0 is the default) and the nodes."""
    cases = [(interval, count) for interval in (0, 1) for count in (1, 3)]
    took = await asyncio.gather(*(scenario(server, *case, rounds) for case in cases))
    return dict(zip(cases, took, strict=True))


async def scenario(server: str, interval: int, count: int, rounds: int) -> list[float]:
    name = f"rescue_{count}_{interval}"
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as connection:
        await connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    dsn = make_conninfo(server, dbname=name)
    await schema.install(dsn)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(STARTS)
    return [await measure(dsn, interval, count) for _ in range(rounds)]


def describe(interval: int, count: int, took: list[float]) -> str:
    which = "the only node, restarted" if count == 1 else f"one of {count} nodes"
    beats = f"refresher.interval {interval:g}" if interval else "defaults"
    return (
        f"{which}, {beats}: median {median(took):.1f} s, worst of {len(took)} {max(took):.1f} s "
        f"(bound {5 if interval else 20} s)"
    )


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m benchmarks.rescue", description=__doc__)
    found.add_argument("rounds", metavar="ROUNDS", type=int, nargs="?", default=10)
    return found


async def main(rounds: int) -> None:
    with fresh_server() as server:
        for case, took in (await measure_all(server, rounds)).items():
            print(describe(*case, took))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["node", address, seconds]:
            asyncio.run(run_node(address, float(seconds)))
        case _:
            asyncio.run(main(parser().parse_args().rounds))
