"""The `_sync` forms: from any thread without a running loop, and from programs without any."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from tests.engines.connections.kinds import url
from tests.engines.connections.test_lent import build, state_of, stored
from tests.running.support import eventually, reached

from oban import Job, Oban, Worker, instances, worker
from oban.engines.reads import JobFilter
from oban.errors import DatabaseUnavailable, DataRefused, InvalidJob, SyncInsideLoop


@pytest.fixture
def unstarted(oban_dsn: str) -> Iterator[Oban]:
    """Made, never started; there is no loop around it."""
    oban = Oban(pool=oban_dsn)
    yield oban
    asyncio.run(oban.stop())


def use_every_form(oban: Oban, conn: object = None) -> None:
    job = oban.enqueue_sync(build(args={"n": 1}), conn=conn)
    first, second = oban.enqueue_many_sync([build(), build("other")], conn=conn)
    assert [type(each.id) for each in (job, first, second)] == [int, int, int]
    assert oban.get_job_sync(job, conn=conn) == job
    changed = oban.update_job_sync(job, {"priority": 3}, conn=conn)
    assert changed is not None
    assert changed.priority == 3
    assert len(oban.update_many_jobs_sync([first, second], {"tags": ["a"]}, conn=conn)) == 2
    assert oban.cancel_job_sync(job, conn=conn) is True
    assert oban.cancel_many_jobs_sync([job, first], conn=conn) == 1
    assert oban.retry_job_sync(job, conn=conn) is True
    assert oban.retry_many_jobs_sync([first], conn=conn) == 1
    assert oban.delete_job_sync(job, conn=conn) is True
    assert oban.delete_many_jobs_sync([first, job], conn=conn) == 1
    assert oban.get_job_sync(job, conn=conn) is None


def test_without_a_loop_and_before_start(unstarted: Oban) -> None:
    use_every_form(unstarted)


def test_on_a_connection_without_a_loop(unstarted: Oban, oban_dsn: str) -> None:
    with psycopg.connect(oban_dsn) as connection:
        use_every_form(unstarted, connection)
    engine = create_engine(url(oban_dsn, "psycopg2"))
    with Session(engine) as session:
        use_every_form(unstarted, session)
        session.rollback()
    engine.dispose()
    assert unstarted.get_job_sync(3) is not None
    assert unstarted.get_job_sync(6) is None


async def test_from_a_thread_beside_the_loop(client: Oban) -> None:
    await asyncio.to_thread(use_every_form, client)


async def test_workers_have_sync_forms_too(client: Oban) -> None:
    def enqueue() -> list[Job]:
        return [Counting.enqueue_sync({"n": 1}), *Counting.enqueue_many_sync([{"n": 2}, {"n": 3}])]

    jobs = await asyncio.to_thread(enqueue)
    assert await stored(client) == jobs


FORMS: list[Callable[[Oban, object], object]] = [
    lambda oban, conn: oban.enqueue_sync(build(), conn=conn),
    lambda oban, conn: oban.enqueue_many_sync([build()], conn=conn),
    lambda oban, conn: oban.get_job_sync(1, conn=conn),
    lambda oban, conn: oban.cancel_job_sync(1, conn=conn),
    lambda oban, conn: oban.cancel_many_jobs_sync([1], conn=conn),
    lambda oban, conn: oban.retry_job_sync(1, conn=conn),
    lambda oban, conn: oban.retry_many_jobs_sync([1], conn=conn),
    lambda oban, conn: oban.delete_job_sync(1, conn=conn),
    lambda oban, conn: oban.delete_many_jobs_sync([1], conn=conn),
    lambda oban, conn: oban.update_job_sync(1, {"priority": 1}, conn=conn),
    lambda oban, conn: oban.update_many_jobs_sync([1], {"priority": 1}, conn=conn),
]


@pytest.mark.parametrize("form", FORMS)
async def test_inside_a_running_loop_each_says_what_to_do(
    form: Callable[[Oban, object], object], client: Oban, oban_dsn: str
) -> None:
    with pytest.raises(SyncInsideLoop, match="await the call without `_sync`"):
        form(client, None)
    with psycopg.connect(oban_dsn) as connection, pytest.raises(SyncInsideLoop):
        form(client, connection)
    assert await stored(client) == []


@worker()
class Counting(Worker):
    """Enqueues its successor from its own thread."""

    def process(self, job: Job) -> None:
        if job.args["n"] > 0:
            Counting.enqueue_sync({"n": job.args["n"] - 1})


@worker(max_attempts=1)
class Blocking(Worker):
    async def process(self, job: Job) -> None:
        Counting.enqueue_sync({"n": 0})


async def test_a_def_job_enqueues_from_its_thread(oban_dsn: str) -> None:
    async with Oban(pool=oban_dsn, queues={"default": 2}) as oban:
        first = await Counting.enqueue({"n": 2})
        await reached(oban, first, "completed")
        assert first.id is not None
        for successor in (first.id + 1, first.id + 2):
            await reached(oban, Job(worker="any", id=successor), "completed")


async def test_an_async_job_is_told_to_await(oban_dsn: str) -> None:
    async with Oban(pool=oban_dsn, queues={"default": 2}) as oban:
        job = await reached(oban, await Blocking.enqueue(), "discarded")
    assert "SyncInsideLoop" in job.errors[0]["error"]


PROGRAM = """
import asyncio, sys, warnings
warnings.simplefilter("error")

def refuse(*_):
    raise AssertionError("a loop was made")

asyncio.set_event_loop_policy(type("None", (asyncio.DefaultEventLoopPolicy,), {{
    "new_event_loop": refuse, "get_event_loop": refuse}})())
from oban import Job, Oban
oban = Oban(pool={dsn!r})
job = oban.enqueue_sync(Job(worker="app.Mailer", queue="alone"))
assert oban.cancel_job_sync(job)
print(oban.get_job_sync(job).state)
"""


async def test_a_program_without_any_loop(client: Oban, oban_dsn: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-c", PROGRAM.format(dsn=oban_dsn)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (ended.stdout, ended.stderr) == ("cancelled\n", "")
    assert [job.queue for job in await stored(client)] == ["alone"]


async def test_many_threads_share_a_few_connections(client: Oban, oban_dsn: str) -> None:
    def enqueue(n: int) -> Job:
        return client.enqueue_sync(build(args={"n": n}))

    with ThreadPoolExecutor(20) as threads:
        loop = asyncio.get_running_loop()
        jobs = await asyncio.gather(
            *(loop.run_in_executor(threads, enqueue, n) for n in range(200))
        )
    assert {job.args["n"] for job in jobs} == set(range(200))
    assert len(await client.list_jobs(JobFilter(limit=1_000))) == 200
    assert 1 <= await sessions(oban_dsn, "oban sync") <= 4
    await client.stop()

    async def gone() -> bool:
        return await sessions(oban_dsn, "oban sync") == 0

    await eventually(gone)


async def sessions(dsn: str, label: str) -> int:
    """How many sessions of that label the server has."""
    query = """select count(*) from pg_stat_activity
      where application_name = %s and datname = current_database()"""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        (row,) = await (await connection.execute(query, [label])).fetchall()
    return int(row[0])


async def test_a_refusal_leaves_the_connection_fit_for_the_next_call(client: Oban) -> None:
    bad = build()
    bad.queue = ""

    def calls() -> Job:
        with pytest.raises(DataRefused, match="queue_length"):
            client.enqueue_sync(bad)
        with pytest.raises(InvalidJob, match="made by `new`"):
            client.enqueue_sync("job")  # type: ignore[arg-type]
        job = client.enqueue_sync(build())
        with pytest.raises(ZeroDivisionError):
            client.update_job_sync(job, lambda job: {"priority": 1 // 0})
        with pytest.raises(InvalidJob):
            client.update_job_sync(job, lambda job: {"priority": 10})
        assert client.update_job_sync(job, {"priority": 1}) is not None
        return job

    job = await asyncio.to_thread(calls)
    found = await client.get_job(job)
    assert found is not None
    assert found.priority == 1


class Renewed:
    """What a pool connects with, made anew each time, as with a token that expires."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.asked = 0

    def plain(self) -> Any:
        self.asked += 1
        return self.value

    async def awaited(self) -> Any:
        return self.plain()


async def test_a_pool_that_renews_what_it_connects_with(oban_dsn: str) -> None:
    conninfo, kwargs = Renewed(oban_dsn), Renewed({"autocommit": True, "connect_timeout": 5})
    renewing = AsyncConnectionPool(conninfo.plain, kwargs=kwargs.plain, min_size=1, open=False)
    async with renewing as pool, Oban(pool=pool) as oban:
        await oban.enqueue(build("async"))
        asked = (conninfo.asked, kwargs.asked)
        await asyncio.to_thread(oban.enqueue_sync, build("sync"))
        assert (conninfo.asked, kwargs.asked) == (asked[0] + 1, asked[1] + 1)
        assert [job.queue for job in await stored(oban)] == ["async", "sync"]


async def test_a_pool_that_must_await_what_it_connects_with(oban_dsn: str) -> None:
    conninfo = Renewed(oban_dsn)
    async with AsyncConnectionPool(conninfo.awaited, open=False) as pool, Oban(pool=pool) as oban:
        await oban.enqueue(build("async"))
        with pytest.raises(DatabaseUnavailable, match="cannot await; pass `conn=`"):
            await asyncio.to_thread(oban.enqueue_sync, build("sync"))
        with psycopg.connect(oban_dsn) as connection:
            await asyncio.to_thread(oban.enqueue_sync, build("lent"), conn=connection)
        assert [job.queue for job in await stored(oban)] == ["async", "lent"]


@pytest.mark.own_session("sessions are named by who used them last")
async def test_what_the_pool_calls_its_sessions_is_not_what_we_call_ours(oban_dsn: str) -> None:
    kwargs = {"application_name": "his", "row_factory": psycopg.rows.dict_row}
    named = AsyncConnectionPool(oban_dsn, kwargs=kwargs, min_size=1, open=False)
    async with named as pool, Oban(pool=pool) as oban:
        await asyncio.to_thread(oban.enqueue_sync, build())
        session = oban.engine.session("oban of ours")
        (job,) = await session.execute(oban.engine.search(JobFilter()))
        assert job.queue == "default"
        assert await sessions(oban_dsn, "oban sync") == 1
        assert await sessions(oban_dsn, "oban of ours") == 1
        await session.close()


def test_a_database_that_does_not_answer_says_so() -> None:
    oban = Oban(pool="host=127.0.0.1 port=1 connect_timeout=2", name="Unreachable")
    try:
        with pytest.raises(DatabaseUnavailable, match="cannot connect"):
            oban.enqueue_sync(build())
    finally:
        instances.unregister(oban)


async def test_a_sync_call_waits_for_no_loop_that_is_blocked(client: Oban) -> None:
    """A thread's call is carried out while the loop does not turn."""
    with ThreadPoolExecutor(1) as threads:
        job = threads.submit(client.enqueue_sync, build()).result(timeout=10)  # blocks the loop
    assert await state_of(client, job) == "available"


async def test_a_sync_call_does_not_wait_for_ever_for_a_connection(oban_dsn: str) -> None:
    """Four calls wait for a lock; the fifth is told so after the timeout of the pool."""
    pool = AsyncConnectionPool(oban_dsn, timeout=0.2, open=False)
    async with (
        pool,
        Oban(pool=pool) as oban,
        await psycopg.AsyncConnection.connect(oban_dsn) as other,
    ):
        job = await oban.enqueue(build())
        await other.execute("select from oban_jobs for update")
        waiting = [
            asyncio.create_task(asyncio.to_thread(oban.cancel_job_sync, job)) for _ in "1234"
        ]

        async def all_connected() -> bool:
            return await sessions(oban_dsn, "oban sync") == 4

        await eventually(all_connected)
        with pytest.raises(DatabaseUnavailable, match="no connection for a `_sync` call"):
            await asyncio.to_thread(oban.get_job_sync, job)
        await other.rollback()
        assert sorted(await asyncio.gather(*waiting)) == [False, False, False, True]
        assert await asyncio.to_thread(oban.get_job_sync, job) is not None
