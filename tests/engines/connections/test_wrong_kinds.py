"""What cannot be lent is refused before anything is done, with what can."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import psycopg
import psycopg2
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker
from tests.engines.connections.kinds import ASYNC_KINDS, SYNC_KINDS, Opened, url
from tests.engines.connections.test_lent import build, stored

from oban import Oban
from oban.errors import ObanError, UnsupportedConnection

ASYNC = "psycopg AsyncConnection or AsyncCursor, SQLAlchemy AsyncSession or AsyncConnection"
SYNC = "psycopg Connection or Cursor, SQLAlchemy Session or Connection"


@asynccontextmanager
async def raw_asyncpg(dsn: str) -> AsyncIterator[object]:
    parts = conninfo_to_dict(dsn)
    connection = await asyncpg.connect(
        host=parts["host"],
        port=parts.get("port"),
        user=parts["user"],
        password=parts.get("password"),
        database=parts["dbname"],
    )
    yield connection
    await connection.close()


@asynccontextmanager
async def raw_psycopg2(dsn: str) -> AsyncIterator[object]:
    connection = psycopg2.connect(dsn)
    yield connection
    connection.close()


@asynccontextmanager
async def of_sqlalchemy(dsn: str, make: Callable[[Any, Any], object]) -> AsyncIterator[object]:
    engine, async_engine = (
        create_engine(url(dsn, "psycopg")),
        create_async_engine(url(dsn, "asyncpg")),
    )
    yield make(engine, async_engine)
    engine.dispose()
    await async_engine.dispose()


@asynccontextmanager
async def plain(value: object) -> AsyncIterator[object]:
    yield value


NEITHER: dict[str, Callable[[str], Any]] = {
    "a raw asyncpg connection": raw_asyncpg,
    "a raw psycopg2 connection": raw_psycopg2,
    "an engine": lambda dsn: of_sqlalchemy(dsn, lambda engine, _: engine),
    "an async engine": lambda dsn: of_sqlalchemy(dsn, lambda _, engine: engine),
    "a sessionmaker": lambda dsn: of_sqlalchemy(dsn, lambda engine, _: sessionmaker(engine)),
    "an async_sessionmaker": lambda dsn: of_sqlalchemy(dsn, lambda _, e: async_sessionmaker(e)),
    "a transaction": lambda dsn: of_sqlalchemy(dsn, lambda engine, _: engine.begin()),
    "a pool": lambda dsn: plain(AsyncConnectionPool(dsn, open=False)),
    "a DSN": plain,
    "a class": lambda _: plain(psycopg.AsyncConnection),
    "a session class": lambda _: plain(Session),
    "true": lambda _: plain(True),
    "false": lambda _: plain(False),
}


@pytest.mark.parametrize("kind", NEITHER)
async def test_what_is_no_connection_is_refused(kind: str, client: Oban, oban_dsn: str) -> None:
    async with NEITHER[kind](oban_dsn) as wrong:
        with pytest.raises(UnsupportedConnection) as raised:
            await client.enqueue(build(), conn=wrong)
    assert isinstance(raised.value, TypeError | ObanError)
    named = wrong if isinstance(wrong, type) else type(wrong)
    assert named.__qualname__ in str(raised.value)
    assert f"this call takes {ASYNC}" in str(raised.value)
    assert f"a `_sync` call takes {SYNC}" in str(raised.value)
    assert await stored(client) == []


@pytest.mark.parametrize("opened", SYNC_KINDS.values(), ids=list(SYNC_KINDS))
async def test_an_awaited_call_refuses_what_is_sync(
    opened: Callable[[str], Opened], client: Oban, oban_dsn: str
) -> None:
    async with opened(oban_dsn) as lent:
        with pytest.raises(UnsupportedConnection, match=f"this call takes {ASYNC}"):
            await client.enqueue(build(), conn=lent.conn)


@pytest.mark.parametrize("opened", ASYNC_KINDS.values(), ids=list(ASYNC_KINDS))
async def test_a_sync_call_refuses_what_is_async(
    opened: Callable[[str], Opened], client: Oban, oban_dsn: str
) -> None:
    async with opened(oban_dsn) as lent:
        with pytest.raises(UnsupportedConnection, match=f"this call takes {SYNC}"):
            await asyncio.to_thread(client.enqueue_sync, build(), conn=lent.conn)


VERBS: list[Callable[[Oban, object], Any]] = [
    lambda oban, conn: oban.enqueue(build(), conn=conn),
    lambda oban, conn: oban.enqueue_many([build()], conn=conn),
    lambda oban, conn: oban.enqueue_many([], conn=conn),
    lambda oban, conn: oban.get_job(1, conn=conn),
    lambda oban, conn: oban.cancel_job(1, conn=conn),
    lambda oban, conn: oban.cancel_many_jobs([], conn=conn),
    lambda oban, conn: oban.retry_job(1, conn=conn),
    lambda oban, conn: oban.delete_job(1, conn=conn),
    lambda oban, conn: oban.update_job(1, {"priority": 1}, conn=conn),
]


@pytest.mark.parametrize("verb", VERBS)
async def test_every_verb_refuses_it(verb: Callable[[Oban, object], Any], client: Oban) -> None:
    with pytest.raises(UnsupportedConnection):
        await verb(client, "postgresql://here")


WITHOUT_GREENLET = """
import sys
sys.modules["greenlet"] = None
import sqlalchemy
from sqlalchemy.orm import Session
from oban import Job, Oban
oban = Oban(pool={dsn!r})
with Session(sqlalchemy.create_engine({url!r})) as session:
    oban.enqueue_sync(Job(worker="app.Mailer"), conn=session)
    session.commit()
try:
    oban.enqueue_sync(Job(worker="app.Mailer"), conn="what?")
except TypeError as error:
    print(error)
"""


async def test_sqlalchemy_may_lack_what_its_async_side_needs(client: Oban, oban_dsn: str) -> None:
    address = url(oban_dsn, "psycopg").render_as_string(hide_password=False)
    code = WITHOUT_GREENLET.format(dsn=oban_dsn, url=address)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stderr == ""
    assert SYNC in ended.stdout
    assert len(await stored(client)) == 1


async def test_subclasses_are_what_they_extend(client: Oban, oban_dsn: str) -> None:
    class Ours(AsyncSession):
        pass

    engine = create_async_engine(url(oban_dsn, "asyncpg"))
    async with Ours(engine) as session:
        await client.enqueue(build(), conn=session)
        await session.commit()
    await engine.dispose()
    assert len(await stored(client)) == 1
