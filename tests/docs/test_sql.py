"""Every statement of SQL on the pages runs, and those for after a crash do what is said."""

import asyncio
import signal
from pathlib import Path

import psycopg
import pytest
from tests.docs.pages import NAMES, Block, blocks, titled
from tests.docs.test_quickstart import start

from oban import Job, Oban

STATEMENTS = [each for page in NAMES for each in blocks(page) if each.language == "sql"]
PAGE = "docs/production.md"

WORKERS = """
import asyncio
from oban import worker

@worker(queue="slow", max_attempts=3)
class Slow:
    async def process(self, job):
        await asyncio.sleep(60)
"""


@pytest.mark.parametrize("block", STATEMENTS, ids=[each.place for each in STATEMENTS])
def test_a_statement_runs(oban_dsn: str, block: Block) -> None:
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute(block.code.encode())


async def test_jobs_of_a_killed_process_are_found_and_given_back(
    installed_place: Path, dsn: str
) -> None:
    (installed_place / "workers.py").write_text(WORKERS, "utf-8")
    async with (
        Oban(pool=dsn) as oban,
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection,
    ):
        nodes = [
            start("-m", "oban", "start", "--queues", "slow:1", folder=installed_place)
            for _ in range(2)
        ]
        try:
            jobs = await oban.enqueue_many(Job(worker="workers.Slow", queue="slow") for _ in "ab")
            await until_executing(oban, jobs)
            find, give_back = (
                titled(PAGE, f"{name}.sql").encode()
                for name in ("find-lost-jobs", "give-back-lost-jobs")
            )
            assert await (await connection.execute(find)).fetchall() == []

            nodes[0].send_signal(signal.SIGKILL)
            nodes[0].wait()
            async with asyncio.timeout(10):
                while not (rows := await (await connection.execute(find)).fetchall()):
                    await asyncio.sleep(0.05)
            (lost,) = rows
            returned = await (await connection.execute(give_back)).fetchall()
            assert returned == [(lost[0], "slow", "available")]
            job = await oban.get_job(lost[0])
            assert job is not None
            assert job.attempt == 1
            assert job.errors[0]["error"] == "the process that ran it died"
            (other,) = (each for each in jobs if each.id != lost[0])
            found = await oban.get_job(other)
            assert found is not None
            assert found.state == "executing"
        finally:
            for node in nodes:
                node.kill()
                node.communicate()


async def until_executing(oban: Oban, jobs: list[Job]) -> None:
    async with asyncio.timeout(20):
        for job in jobs:
            while (found := await oban.get_job(job)) is None or found.state != "executing":
                await asyncio.sleep(0.05)
