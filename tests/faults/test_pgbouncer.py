"""Behind PgBouncer in transaction mode, where no session is anybody's own."""

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool
from tests.engines.catalog import HERE
from tests.faults.bouncer import MISSING, PROGRAM, bouncer
from tests.roads import direct
from tests.running.support import eventually, named, reached

from oban import Job, Oban, Worker, worker

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=MISSING)

QUICK = {"interval": 0.3, "max_age": 1}


@worker()
class Quick(Worker):
    async def process(self, job: Job) -> None: ...


@worker()
class Patient(Worker):
    async def process(self, job: Job) -> None:
        while not job.cancelled():
            await asyncio.sleep(0.01)


@pytest.fixture
def pooled(oban_dsn: str) -> Iterator[str]:
    with bouncer(oban_dsn) as dsn:
        yield dsn


def sessions(dsn: str, column: str) -> list[Any]:
    """What the server's sessions hold, asked through as many of them as there are."""
    found: list[Any] = []
    opened = [psycopg.connect(dsn) for _ in range(8)]
    for connection in opened:  # each within a transaction, and so on a connection of its own
        found += connection.execute(f"select * from {column}".encode()).fetchall()
    for connection in opened:
        connection.close()
    return found


async def test_a_node_finds_out_polls_and_says_so(pooled: str, events: list[Any]) -> None:
    async with Oban(pool=pooled, queues={"default": 10}, refresher=QUICK) as oban:
        jobs = [await oban.enqueue(Quick.new()) for _ in range(30)]
        for job in jobs:
            await reached(oban, job, "completed")

        async def told() -> bool:
            return "pooler" in str((await oban.list_queues())[0].meta["polling"])

        await eventually(told)
    assert "pooler" in named(events, "oban.signals.deaf")[0]["reason"]
    assert named(events, "oban.producer.outage") == []


async def test_nothing_is_left_behind_on_the_sessions_of_others(pooled: str) -> None:
    async with Oban(pool=pooled, queues={"a": 5, "b": 5}, refresher=QUICK) as oban:
        for n in range(40):
            job = await oban.enqueue(Quick.new(queue="ab"[n % 2]))
        await reached(oban, job, "completed")
        await asyncio.to_thread(oban.enqueue_sync, Quick.new())
    assert sessions(pooled, "pg_listening_channels()") == []
    assert sessions(pooled, "pg_prepared_statements") == []
    assert sessions(pooled, f"pg_locks where locktype = 'advisory' and {HERE}") == []


async def test_with_an_address_of_its_own_it_listens(pooled: str, oban_dsn: str) -> None:
    async with Oban(pool=pooled, queues={"default": 1}, listen_dsn=direct(oban_dsn)) as oban:

        async def hearing() -> bool:
            return oban.hearing is None

        await eventually(hearing)


async def test_an_address_where_nothing_arrives_is_found_out(pooled: str, oban_dsn: str) -> None:
    async with Oban(pool=oban_dsn, queues={"default": 1}, listen_dsn=pooled) as oban:

        async def found_out() -> bool:
            return "did not arrive at listen_dsn" in str(oban.hearing)

        await eventually(found_out, 15)
        await reached(oban, await oban.enqueue(Quick.new()), "completed")


async def test_borrowed_connections_are_used_without_preparing(pooled: str) -> None:
    async with AsyncConnectionPool(pooled, kwargs={"autocommit": True}) as pool:
        oban = Oban(pool=pool)
        for _ in range(12):
            async with pool.connection() as connection, connection.transaction():
                await oban.enqueue(Quick.new(), conn=connection)
        await oban.stop()
    with psycopg.connect(pooled) as connection_:
        row = connection_.execute("select count(*) from oban_jobs").fetchone()
        assert row == (12,)
        connection_.rollback()
    assert sessions(pooled, "pg_prepared_statements") == []


async def test_cancelling_pausing_and_rescuing_work(pooled: str, oban_dsn: str) -> None:
    async with Oban(pool=pooled, queues={"default": 5}, refresher=QUICK) as oban:
        job = await oban.enqueue(Patient.new())
        await reached(oban, job, "executing")
        await oban.cancel_job(job)

        async def ended() -> bool:
            return oban.check_all_queues()[0].running == []

        await eventually(ended)
        await oban.pause_queue("default")

        async def paused() -> bool:
            return oban.check_all_queues()[0].paused

        await eventually(paused)
        await oban.resume_queue("default")
        with psycopg.connect(oban_dsn, autocommit=True) as connection:
            connection.execute(
                "insert into oban_owners (uuid, name, node, queue, max_age) values "
                "('11111111-1111-4111-8111-111111111111', 'Oban', 'dead', 'default', 1)"
            )
            connection.execute(
                "insert into oban_jobs (worker, state, attempt, attempted_by, attempted_at) "
                "values ('w', 'executing', 1, "
                "'{dead,11111111-1111-4111-8111-111111111111}', now())"
            )
            row = connection.execute("select max(id) from oban_jobs").fetchone()
            assert row is not None

        async def rescued() -> bool:
            found = await oban.get_job(row[0])
            return found is not None and found.meta.get("crashes") == 1

        await eventually(rescued)
