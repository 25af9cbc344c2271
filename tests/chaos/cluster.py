"""What a scenario has at hand: nodes to start and kill, jobs to enqueue, a checker at the end."""

import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
from tests.chaos.checker import Report, check
from tests.chaos.node import Noted, Plain
from tests.faults.processes import Process

from oban import Job, Oban

#: Quick enough that a death is found within seconds; the proportions are those of the defaults.
#: Some of those that have not ended, with all that is known of them.
UNFINISHED = """
select cast(to_jsonb(job) as text) from oban_jobs as job
where state not in ('completed', 'cancelled', 'discarded') limit 3
"""
REFRESHER = {"interval": 0.6, "max_age": 2.0}
QUEUES = {"default": 20, "other": 20}


class Cluster:
    def __init__(self, dsn: str, folder: Path, report: Report, chance: random.Random) -> None:
        self.dsn = dsn
        self.folder = folder
        self.report = report
        self.chance = chance
        self.enqueued: set[int] = set()
        self.touched: set[int] = set()
        self.died_at: dict[int, float] = {}
        self.nodes: dict[str, Process] = {}
        self.files: list[Path] = []
        self.stack = AsyncExitStack()

    # Nodes

    async def start(
        self, dsn: str | None = None, *, env: Mapping[str, str] | None = None, **options: Any
    ) -> Process:
        """A node that runs; `dsn` may lead through something in between."""
        number = len(self.files)
        records = self.folder / f"records-{number}"
        records.touch()
        self.files.append(records)
        settings = {
            "queues": QUEUES,
            "refresher": REFRESHER,
            "shutdown_grace_period": 3.0,
            **options,
        }
        name = f"node{number}"
        program = [sys.executable, "-m", "tests.chaos.node", dsn or self.dsn, name]
        log = self.folder / f"node-{number}.log"
        node = Process(*program, str(records), json.dumps(settings), log=log, env=env)
        await self.stack.enter_async_context(node)
        await node.line("ready", timeout=30)
        self.nodes[name] = node
        return node

    def kill(self, node: Process) -> None:
        node.kill()
        self.died_at[node.pid] = time.monotonic()

    @asynccontextmanager
    async def frozen(self, node: Process) -> AsyncIterator[None]:
        """Stopped as by SIGSTOP: while it lasts, and after it, the process is no living one."""
        node.stop()
        self.died_at[node.pid] = time.monotonic()
        try:
            yield
        finally:
            node.resume()

    async def terminate(self, *nodes: Process) -> None:
        """Stop as an orchestrator does; what is left behind by then is a fault of ours."""
        for node in nodes:
            node.terminate()
        for node in nodes:
            code = await node.exited(timeout=15)
            self.died_at.setdefault(node.pid, time.monotonic())
            if code != 0:
                self.fail(f"a node ended with code {code} when it was told to stop")

    def living(self) -> list[Process]:
        return [node for node in self.nodes.values() if node.returncode is None]

    # Jobs

    def make(
        self, count: int, kind: type[Noted] = Plain, *, queue: str | None = None, **args: Any
    ) -> list[Job]:
        first = max(self.enqueued, default=-1) + 1
        numbers = range(first, first + count)
        self.enqueued.update(numbers)
        queues = list(QUEUES) if queue is None else [queue]
        return [
            kind.new({"n": n, **args}, queue=queues[n % len(queues)], max_attempts=50)
            for n in numbers
        ]

    async def enqueue(self, count: int, kind: type[Noted] = Plain, **options: Any) -> list[Job]:
        async with Oban(pool=self.dsn, name="chaos client") as client:
            return await client.enqueue_many(self.make(count, kind, **options))

    def query(self, sql: str, *values: object) -> list[Any]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(sql.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def unfinished(self) -> int:
        states = "('completed', 'cancelled', 'discarded')"
        return int(self.query(f"select count(*) from oban_jobs where state not in {states}")[0][0])

    async def reached(self, sql: str, wanted: int, deadline: float = 30) -> None:
        """Wait until the query's number is at least so large."""
        ends = time.monotonic() + deadline
        while (found := (await asyncio.to_thread(self.query, sql))[0][0]) < wanted:
            if time.monotonic() > ends:
                self.fail(f"only {found} of {wanted} after {deadline:g} s: {sql}")
                return
            await asyncio.sleep(0.05)

    async def started(self, count: int) -> None:
        """Wait until so many jobs have been claimed at least once."""
        await self.reached("select count(*) from oban_jobs where attempt > 0", count)

    async def settle(self, deadline: float = 60) -> None:
        """Wait until every job has ended."""
        ends = time.monotonic() + deadline
        while left := await asyncio.to_thread(self.unfinished):
            if time.monotonic() > ends:
                self.fail(f"{left} jobs have not ended after {deadline:g} s")
                for row in self.query(UNFINISHED):
                    self.fail(f"not ended: {row[0]}")
                return
            await asyncio.sleep(0.1)

    # The end

    def fail(self, reason: str) -> None:
        self.report.failures.append(reason)

    def note(self, text: str) -> None:
        self.report.notes.append(text)

    def expect(self, condition: object, reason: str) -> None:
        if not condition:
            self.fail(reason)

    def outputs(self) -> list[str]:
        return [node.output for node in self.nodes.values()]

    async def close(self) -> None:
        for node in self.living():
            node.send(signal.SIGCONT)
        await self.stack.aclose()

    def check(self) -> None:
        check(
            self.report,
            self.dsn,
            self.enqueued,
            self.files,
            self.died_at,
            self.outputs(),
            self.touched,
        )


async def together(nodes: Iterable[Any]) -> list[Process]:
    return list(await asyncio.gather(*nodes))
