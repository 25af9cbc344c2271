"""A small application on disk, whose node is started as a process of its own."""

from pathlib import Path
from textwrap import dedent

import psycopg
from tests.faults.processes import OBAN, Process

WORKERS = """
import asyncio, time
from oban import worker, job

@worker(queue="default")
class Patient:
    async def process(self, job):
        await asyncio.sleep(60)

@worker(queue="default")
class Threaded:
    def process(self, job):
        time.sleep(60)

@worker(queue="default")
class Stubborn:
    async def process(self, job):
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass

@worker(queue="blocked")
class Blocking:
    async def process(self, job):
        time.sleep(60)

@job(queue="default")
def quick(kept):
    pass
"""


class Application:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("jobs_of_mine.py", WORKERS)

    def write(self, path: str, text: str) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text))
        return file

    def start(self, *arguments: str, env: dict[str, str] | None = None) -> Process:
        return Process(OBAN, "start", *arguments, log=self.folder / "log", cwd=self.folder, env=env)

    def enqueue(self, dsn: str, *workers: str, queue: str = "default") -> None:
        with psycopg.connect(dsn) as connection:
            for name in workers:
                connection.execute(
                    "insert into oban_jobs (worker, queue, args) values (%s, %s, %s)",
                    [name if "." in name else f"jobs_of_mine.{name}", queue, '{"kept": true}'],
                )


def rows(dsn: str) -> list[tuple[str, str, int, object]]:
    """Worker, state, attempt and arguments of every job, by id."""
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "select worker, cast(state as text), attempt, args from oban_jobs order by id"
        ).fetchall()
