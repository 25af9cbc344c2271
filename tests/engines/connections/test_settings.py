"""What an owner has set on his connection changes nothing for us, nor we anything for him."""

import json
import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg.adapt import Loader
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from tests.engines.connections.heard import Heard
from tests.engines.connections.kinds import (
    Lent,
    async_connection,
    async_session,
    connection,
    psycopg_async,
    psycopg_sync,
    session,
    url,
)  # fmt: skip
from tests.engines.connections.test_lent import RICH, build, stored

from oban import Oban
from oban.engines.postgres import insert_rows as job_verbs
from oban.engines.reads import JobFilter


class Scaled(Loader):
    def load(self, data: Any) -> Decimal:
        return Decimal(bytes(data).decode())


class Reversed(Loader):
    def load(self, data: Any) -> str:
        return bytes(data).decode()[::-1]


class Parsed(Loader):
    def load(self, data: Any) -> list[Any]:
        return [json.loads(bytes(data))]


def peculiar(owner: "psycopg.AsyncConnection[Any] | psycopg.Connection[Any]") -> None:
    """Settings of which each would break whoever relied on the usual ones."""
    owner.row_factory = dict_row
    set_json_loads(lambda _: "the owner's own", owner)
    owner.adapters.register_loader("jsonb", Parsed)
    owner.adapters.register_loader("float8", Scaled)
    owner.adapters.register_loader("int8", Scaled)
    owner.adapters.register_loader("text", Reversed)
    owner.prepare_threshold = 0
    if isinstance(owner, psycopg.AsyncConnection):
        owner.cursor_factory = psycopg.AsyncClientCursor
    else:
        owner.cursor_factory = psycopg.ClientCursor


async def use_every_verb(lent: Lent, client: Oban) -> None:
    job = await lent.call(client, "enqueue", build(args=RICH, meta=RICH, tags=["vip"]))
    assert (job.args, job.tags) == (RICH, ["vip"])
    for _ in range(2):  # prepared the second time
        found = await lent.call(client, "get_job", job)
        assert found == job
        assert type(found.id) is int
    changed = await lent.call(client, "update_job", job, lambda job: {"priority": job.priority + 1})
    assert (changed.priority, changed.args) == (1, RICH)
    assert await lent.call(client, "cancel_job", job) is True
    assert await lent.call(client, "retry_job", job) is True
    assert await lent.call(client, "delete_job", job) is True
    await lent.call(client, "enqueue_many", [build(), build()])
    await lent.commit()
    assert len(await stored(client)) == 2


@pytest.mark.parametrize("opened", [psycopg_async, psycopg_sync])
async def test_factories_and_loaders_of_the_owner_are_his(
    opened: Callable[..., Any], client: Oban, oban_dsn: str
) -> None:
    async with opened(oban_dsn) as lent:
        peculiar(lent.conn)
        await use_every_verb(lent, client)
        (row,) = await lent.execute("select 1::float8 as a, 'xy'::text as b, '{}'::jsonb as c")
        assert row == {"a": Decimal(1), "b": "yx", "c": [{}]}


async def test_a_pool_of_peculiar_connections_serves_as_well(oban_dsn: str) -> None:
    from psycopg_pool import AsyncConnectionPool

    async def configure(owner: psycopg.AsyncConnection[Any]) -> None:
        peculiar(owner)

    kwargs = {"row_factory": dict_row, "autocommit": False}
    async with AsyncConnectionPool(oban_dsn, kwargs=kwargs, configure=configure) as pool:
        async with Oban(pool=pool) as oban:
            job = await oban.enqueue(build(args=RICH))
            assert (await oban.update_job(job, {"priority": 2})) is not None
            assert (await stored(oban))[0].args == RICH
        async with pool.connection() as owner:
            assert owner.autocommit is False


@pytest.mark.parametrize("opened", [psycopg_async, psycopg_sync])
async def test_with_autocommit_each_call_is_a_transaction_of_its_own(
    opened: Callable[..., Any], client: Oban, heard: Heard, oban_dsn: str
) -> None:
    async with opened(oban_dsn, autocommit=True) as lent:
        job = await lent.call(client, "enqueue", build("first"))
        assert await heard.queues() == ["first"]
        changed = await lent.call(client, "update_job", job, {"priority": 1})
        assert await stored(client) == [changed]
        assert lent.conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert lent.conn.autocommit is True


@pytest.mark.parametrize("opened", [psycopg_async, psycopg_sync])
async def test_with_autocommit_many_statements_are_still_all_or_nothing(
    opened: Callable[..., Any], client: Oban, heard: Heard, oban_dsn: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(job_verbs, "MAX_INSERT_JOBS", 2)
    bad = build()
    bad.queue = ""
    async with opened(oban_dsn, autocommit=True) as lent:
        with pytest.raises(psycopg.errors.CheckViolation):
            await lent.call(client, "enqueue_many", [build(), build(), build(), bad])
        assert await stored(client) == []
        assert await heard.all() == []
        inserted = await lent.call(client, "enqueue_many", [build(), build(), build()])
        assert await stored(client) == inserted


@pytest.mark.parametrize("opened", [psycopg_async, psycopg_sync])
async def test_with_autocommit_a_block_of_the_owner_is_his(
    opened: Callable[..., Any], client: Oban, heard: Heard, oban_dsn: str
) -> None:
    async with opened(oban_dsn, autocommit=True) as lent:
        with pytest.raises(ZeroDivisionError):
            async with lent.savepoint():  # outermost, and so the transaction
                job = await lent.call(client, "enqueue", build())
                await lent.call(client, "update_job", job, {"priority": 1})
                assert await stored(client) == []
                raise ZeroDivisionError
        assert await stored(client) == []
        assert await heard.all() == []
        async with lent.savepoint():
            job = await lent.call(client, "enqueue", build())
        assert await stored(client) == [job]


async def test_the_owner_may_be_in_a_pipeline(client: Oban, oban_dsn: str) -> None:
    async with psycopg_async(oban_dsn) as lent, lent.conn.pipeline():
        await lent.conn.execute("create temporary table his (n int) on commit drop")
        await use_every_verb(lent, client)


async def test_a_transaction_that_failed_before_raises_the_drivers_error(
    client: Oban, oban_dsn: str
) -> None:
    async with psycopg_async(oban_dsn) as lent:
        with pytest.raises(psycopg.errors.DivisionByZero):
            await lent.execute("select 1 / 0")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            await lent.call(client, "enqueue", build())
        await lent.rollback()
        await lent.call(client, "enqueue", build())


async def test_a_connection_that_is_closed_raises_the_drivers_error(
    client: Oban, oban_dsn: str
) -> None:
    async with psycopg_async(oban_dsn) as lent:
        await lent.conn.close()
        with pytest.raises(psycopg.OperationalError, match="closed"):
            await lent.call(client, "enqueue", build())


ECHOING: list[Any] = [
    async_session("psycopg_async", echo=True),
    async_connection("asyncpg", echo=True),
    session("psycopg2", echo=True),
    connection("psycopg", echo=True),
]


@pytest.mark.parametrize("opened", ECHOING)
async def test_sqlalchemy_may_echo(
    opened: Callable[[str], Any], client: Oban, oban_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sqlalchemy.engine")
    async with opened(oban_dsn) as lent:
        await use_every_verb(lent, client)
    assert any("insert into" in record.message for record in caplog.records)


SERIALIZABLE: list[Any] = [
    async_session("asyncpg", isolation_level="SERIALIZABLE"),
    session("psycopg2", isolation_level="SERIALIZABLE"),
]


@pytest.mark.parametrize("opened", SERIALIZABLE)
async def test_sqlalchemy_may_isolate_as_it_likes(
    opened: Callable[[str], Any], client: Oban, oban_dsn: str
) -> None:
    async with opened(oban_dsn) as lent:
        await use_every_verb(lent, client)
        assert await lent.execute("show transaction_isolation") == [("serializable",)]


async def test_json_of_an_sqlalchemy_engine_is_its_owners(client: Oban, oban_dsn: str) -> None:
    for driver in ("psycopg_async", "asyncpg"):
        opened = async_session(driver, json_deserializer=lambda _: "the owner's own")
        async with opened(oban_dsn) as lent:
            await use_every_verb(lent, client)
        await client.delete_many_jobs(await stored(client))


async def test_a_session_has_its_own_work_in_the_same_transaction(
    client: Oban, oban_dsn: str
) -> None:
    async with async_session("asyncpg")(oban_dsn) as lent:
        await lent.conn.execute(sqlalchemy.text("create table his (n int)"))
        await lent.call(client, "enqueue", build())
        await lent.conn.execute(sqlalchemy.text("insert into his values (1)"))
        await lent.rollback()
        assert await stored(client) == []
        assert await lent.execute("select cast(to_regclass('his') as text)") == [(None,)]


async def test_the_usual_shapes_of_sqlalchemy(client: Oban, oban_dsn: str) -> None:
    engine = create_async_engine(url(oban_dsn, "asyncpg"))
    async with AsyncSession(engine) as session, session.begin():
        await client.enqueue(build("a"), conn=session)
    async with engine.begin() as begun:
        await client.enqueue(build("b"), conn=begun)
    with pytest.raises(ZeroDivisionError):
        async with engine.begin() as begun:
            await client.enqueue(build("c"), conn=begun)
            raise ZeroDivisionError
    async with engine.connect() as plain:
        await client.enqueue(build("d"), conn=plain)
    await engine.dispose()
    assert [job.queue for job in await stored(client)] == ["a", "b"]


async def test_listing_takes_a_connection_too(client: Oban, oban_dsn: str) -> None:
    wanted = JobFilter(
        states=["available"], queue="default", worker="app.Mailer", tags=["vip"],
        args={"a": 1}, meta={"b": None}, priority=2, before_id=10**12,
    )  # fmt: skip
    for opened in (psycopg_async, async_session("psycopg_async"), async_connection("asyncpg")):
        async with opened(oban_dsn) as lent:
            job = await lent.call(
                client, "enqueue", build(args={"a": 1}, meta={"b": None}, tags=["vip"], priority=2)
            )
            assert await lent.call(client, "list_jobs", wanted) == [job]
            assert await lent.call(client, "list_jobs", JobFilter(queue="other")) == []
            await lent.rollback()
