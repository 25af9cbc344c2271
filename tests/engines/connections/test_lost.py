"""Connections that break: what the caller is told, and what is in the table."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool
from tests.engines.connections.heard import Heard
from tests.engines.connections.kinds import (
    async_connection,
    async_session,
    connection,
    psycopg_async,
    psycopg_sync,
    session,
)  # fmt: skip
from tests.engines.connections.test_lent import build, stored
from tests.faults.proxy import Proxy
from tests.running.support import eventually

from oban import Job, Oban
from oban.engines.postgres import insert_rows as job_verbs
from oban.engines.postgres.connections.cancelling import PATIENCE as CANCEL_PATIENCE
from oban.errors import DatabaseUnavailable, OutcomeUnknown


def is_insert(sql: str) -> bool:
    return "insert into" in sql and "oban_jobs (" in sql


@pytest.fixture
async def proxy(oban_dsn: str) -> AsyncIterator[Proxy]:
    async with Proxy(oban_dsn) as proxy:
        yield proxy


@pytest.fixture
async def behind(proxy: Proxy) -> AsyncIterator[Oban]:
    """An Oban whose every connection leads through the proxy."""
    async with Oban(pool=proxy.dsn(), name="behind") as oban:
        yield oban


Call = Callable[..., Awaitable[Any]]


@pytest.fixture(params=["awaited", "sync"])
def call(request: pytest.FixtureRequest, behind: Oban) -> Call:
    """A verb of the Oban behind the proxy, awaited or in its `_sync` form."""

    async def awaited(verb: str, *args: Any) -> Any:
        return await getattr(behind, verb)(*args)

    async def sync(verb: str, *args: Any) -> Any:
        return await asyncio.to_thread(getattr(behind, f"{verb}_sync"), *args)

    return awaited if request.param == "awaited" else sync


async def test_a_lost_reply_is_told_and_the_job_is_there_once(
    proxy: Proxy, call: Call, client: Oban, heard: Heard
) -> None:
    cut = proxy.cut_before_reply(is_insert)
    with pytest.raises(OutcomeUnknown, match="look before you repeat"):
        await call("enqueue", build("lost"))
    await cut.fired()
    assert [job.queue for job in await stored(client)] == ["lost"]
    assert await heard.queues() == ["lost"]
    await call("enqueue", build("next"))
    assert [job.queue for job in await stored(client)] == ["lost", "next"]


async def test_a_lost_reply_to_many_statements_leaves_all_or_nothing(
    proxy: Proxy, call: Call, client: Oban, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_verbs, "MAX_INSERT_JOBS", 2)
    cut = proxy.cut_before_reply(is_insert)
    with pytest.raises(OutcomeUnknown):
        await call("enqueue_many", [build() for _ in range(5)])
    await cut.fired()
    assert len(await stored(client)) == 5


async def test_a_request_that_is_lost_leaves_nothing(
    proxy: Proxy, call: Call, client: Oban, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_verbs, "MAX_INSERT_JOBS", 2)
    statements: list[str] = []

    def is_third(sql: str) -> bool:
        statements.extend([sql] * is_insert(sql))
        return len(statements) == 3

    proxy.cut_before_send(is_third)
    with pytest.raises(OutcomeUnknown):  # we cannot know that it never arrived
        await call("enqueue_many", [build() for _ in range(5)])
    assert await stored(client) == []


@pytest.mark.parametrize(
    ("verb", "arguments", "state", "mark"),
    [
        ("cancel_job", (), "cancelled", "stopping_at = case"),
        ("update_job", ({"priority": 5},), "available", "set queue = coalesce(input.queue"),
        ("delete_job", (), None, "delete from"),
    ],
)
async def test_a_lost_reply_to_a_change_is_told(
    proxy: Proxy, call: Call, client: Oban, verb: str, arguments: Any, state: str, mark: str
) -> None:
    job = await client.enqueue(build())
    cut = proxy.cut_before_reply(lambda sql: mark in sql)
    with pytest.raises(OutcomeUnknown):
        await call(verb, job, *arguments)
    await cut.fired()
    found = await client.get_job(job)
    assert (found and str(found.state)) == state
    assert found is None or found.priority == (5 if verb == "update_job" else 0)


async def test_a_lost_reply_to_a_question_is_an_outage(
    proxy: Proxy, call: Call, client: Oban
) -> None:
    job = await client.enqueue(build())
    cut = proxy.cut_before_reply(lambda sql: "where job.id = any" in sql)
    with pytest.raises(DatabaseUnavailable):
        await call("get_job", job)
    await cut.fired()
    assert await call("get_job", job) == job


LENT: list[Any] = [
    psycopg_async,
    psycopg_sync,
    async_session("asyncpg"),
    async_connection("psycopg_async"),
    session("psycopg2"),
    connection("psycopg"),
]


@pytest.mark.parametrize("opened", LENT)
async def test_on_a_lent_connection_the_driver_speaks_for_itself(
    opened: Callable[[str], Any], proxy: Proxy, client: Oban
) -> None:
    async with opened(proxy.dsn()) as lent:
        await lent.execute("select 1")
        cut = proxy.cut_before_send(is_insert)
        with pytest.raises(Exception) as raised:
            await lent.call(client, "enqueue", build())
        await cut.fired()
    assert type(raised.value).__module__.split(".")[0] in {"psycopg", "sqlalchemy"}
    assert await stored(client) == []


async def terminate(dsn: str, label: str, *, wait: bool) -> int:
    """Kill the sessions of that label; `wait` until the server has seen them go."""
    query = """select count(*) filter (where pg_terminate_backend(pid, %s))
      from pg_stat_activity where application_name = %s and datname = current_database()"""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        cursor = await connection.execute(query, [5_000 if wait else 0, label])
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("wait", [True, False], ids=["gone", "going"])
@pytest.mark.parametrize("min_size", [1, 4])
@pytest.mark.own_session("it has the sessions that are terminated")
async def test_a_connection_that_died_in_the_pool_is_no_error(
    oban_dsn: str, client: Oban, min_size: int, wait: bool
) -> None:
    pool = AsyncConnectionPool(
        oban_dsn, min_size=min_size, kwargs={"application_name": "victim"}, open=False
    )
    count = 3 if wait else 10
    async with pool, Oban(pool=pool, name="victim") as oban:
        for n in range(count):
            await pool.wait()
            assert await terminate(oban_dsn, "victim", wait=wait) >= 1
            await oban.enqueue(build(args={"n": n}))
    assert [job.args["n"] for job in await stored(client)] == list(range(count))


@pytest.mark.parametrize("wait", [True, False], ids=["gone", "going"])
@pytest.mark.own_session("it has the sessions that are terminated")
async def test_an_idle_sync_connection_that_died_is_no_error(
    oban_dsn: str, client: Oban, wait: bool
) -> None:
    await asyncio.to_thread(client.enqueue_sync, build(args={"n": -1}))
    for n in range(10):
        assert await terminate(oban_dsn, "oban sync", wait=wait) == 1
        await asyncio.to_thread(client.enqueue_sync, build(args={"n": n}))
    assert [job.args["n"] for job in await stored(client)] == list(range(-1, 10))


async def test_a_reset_while_idle_is_no_error(proxy: Proxy, call: Call, client: Oban) -> None:
    for n in range(5):
        await call("enqueue", build(args={"n": n}))
        proxy.cut_all()
        await asyncio.sleep(0)
    assert [job.args["n"] for job in await stored(client)] == list(range(5))


@pytest.mark.own_session("fewer sessions than wait here")
async def test_a_call_that_is_cancelled_leaves_the_pool_usable(oban_dsn: str, client: Oban) -> None:
    """The row is locked by somebody: all connections wait, and more calls wait for those."""
    job = await client.enqueue(build())
    async with (
        await psycopg.AsyncConnection.connect(oban_dsn) as other,
        await psycopg.AsyncConnection.connect(oban_dsn, autocommit=True) as observer,
    ):
        await other.execute("select from oban_jobs for update")
        waiting = [asyncio.create_task(client.cancel_job(job)) for _ in range(20)]

        async def all_wait() -> bool:
            cursor = await observer.execute(
                "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
                " and datname = current_database()"
            )
            return await cursor.fetchone() == (10,)

        await eventually(all_wait)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting, timeout=10)
        assert all(task.cancelled() for task in waiting)
    assert await client.cancel_job(job) is True
    assert await asyncio.gather(*(client.get_job(job) for _ in range(20)))


@pytest.mark.parametrize("verb", ["enqueue", "enqueue_many"])
async def test_a_deadline_holds_where_the_server_does_not_answer(
    proxy: Proxy, behind: Oban, verb: str
) -> None:
    await behind.enqueue(build())
    loop = asyncio.get_running_loop()
    proxy.pause()
    began = loop.time()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await getattr(behind, verb)(build())
    assert loop.time() - began < 0.1 + 2 * CANCEL_PATIENCE
    proxy.resume()
    assert await behind.enqueue(build())


@pytest.mark.own_session("a connection is found again by its session")
async def test_a_call_that_is_cancelled_keeps_a_connection_whose_server_answers(
    oban_dsn: str,
) -> None:
    pool = AsyncConnectionPool(oban_dsn, min_size=1, max_size=1, open=False)
    async with (
        pool,
        Oban(pool=pool) as oban,
        await psycopg.AsyncConnection.connect(oban_dsn) as other,
    ):
        job = await oban.enqueue(build())
        async with pool.connection() as connection:
            before = connection.info.backend_pid
        await other.execute("select from oban_jobs for update")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await oban.cancel_job(job)
        await other.rollback()
        async with pool.connection() as connection:
            assert connection.info.backend_pid == before
            assert "cancel_safe" not in vars(connection)
        found = await oban.get_job(job)
        assert found is not None
        assert found.state == "available"


async def test_the_job_value_is_not_touched_by_a_failure(proxy: Proxy, behind: Oban) -> None:
    job: Job = build(args={"n": 1})
    proxy.cut_before_reply(is_insert)
    with pytest.raises(OutcomeUnknown):
        await behind.enqueue(job)
    assert (job.id, job.inserted_at, job.state) == (None, None, "available")
