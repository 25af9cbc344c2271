"""Every kind of connection that can be lent, and what its owner does with it meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL, create_engine, text
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from oban import Oban


class Lent(Protocol):
    """A connection in the hands of a test; its transaction begins with the first statement."""

    @property
    def conn(self) -> Any: ...

    async def call(self, oban: Oban, verb: str, *args: Any) -> Any:
        """The verb of `oban`, on this connection: awaited, or in its `_sync` form on a thread."""
        ...

    async def execute(self, statement: str) -> list[Any]: ...

    async def commit(self) -> None: ...

    async def rollback(self) -> None: ...

    def savepoint(self) -> AbstractAsyncContextManager[object]: ...


Opened = AbstractAsyncContextManager[Lent]


@dataclass(frozen=True)
class AsyncLent:
    conn: Any
    owner: Any
    write: Callable[[str], Any]
    nested: Callable[[], AbstractAsyncContextManager[object]]

    async def call(self, oban: Oban, verb: str, *args: Any) -> Any:
        return await getattr(oban, verb)(*args, conn=self.conn)

    async def execute(self, statement: str) -> list[Any]:
        result = await self.owner.execute(self.write(statement))
        fetched = result.fetchall()
        return list(await fetched if asyncio.iscoroutine(fetched) else fetched)

    async def commit(self) -> None:
        await self.owner.commit()

    async def rollback(self) -> None:
        await self.owner.rollback()

    def savepoint(self) -> AbstractAsyncContextManager[object]:
        return self.nested()


@dataclass(frozen=True)
class SyncLent:
    conn: Any
    owner: Any
    write: Callable[[str], Any]
    nested: Callable[[], AbstractContextManager[object]]

    async def call(self, oban: Oban, verb: str, *args: Any) -> Any:
        return await asyncio.to_thread(getattr(oban, f"{verb}_sync"), *args, conn=self.conn)

    async def execute(self, statement: str) -> list[Any]:
        return await asyncio.to_thread(self.fetch, statement)

    def fetch(self, statement: str) -> list[Any]:
        return list(self.owner.execute(self.write(statement)).fetchall())

    async def commit(self) -> None:
        await asyncio.to_thread(self.owner.commit)

    async def rollback(self) -> None:
        await asyncio.to_thread(self.owner.rollback)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        block = self.nested()
        await asyncio.to_thread(block.__enter__)
        try:
            yield
        except BaseException as error:
            await asyncio.to_thread(block.__exit__, type(error), error, error.__traceback__)
            raise
        await asyncio.to_thread(block.__exit__, None, None, None)


def url(dsn: str, driver: str) -> URL:
    """The DSN of libpq as SQLAlchemy has it, a folder of sockets included."""
    parts = conninfo_to_dict(dsn)
    host = str(parts["host"])
    query = {"host": host} if host.startswith("/") else {}
    return URL.create(
        f"postgresql+{driver}",
        username=str(parts["user"]),
        password=str(parts["password"]) if parts.get("password") else None,
        host=None if query else host,
        port=int(parts.get("port") or 5432),
        database=str(parts["dbname"]),
        query=query,
    )


# Each opens a connection to a DSN and closes it in the end, as its owner would.


@asynccontextmanager
async def psycopg_async(dsn: str, **options: Any) -> AsyncIterator[Lent]:
    async with await psycopg.AsyncConnection.connect(dsn, **options) as owner:
        yield AsyncLent(owner, owner, str, owner.transaction)
        await owner.close()


@asynccontextmanager
async def psycopg_async_cursor(dsn: str) -> AsyncIterator[Lent]:
    async with await psycopg.AsyncConnection.connect(dsn) as owner, owner.cursor() as cursor:
        yield AsyncLent(cursor, owner, str, owner.transaction)
        await owner.close()


@asynccontextmanager
async def psycopg_sync(dsn: str, **options: Any) -> AsyncIterator[Lent]:
    # On a thread, for whoever has to answer may live on the loop.
    owner = await asyncio.to_thread(lambda: psycopg.Connection.connect(dsn, **options))
    yield SyncLent(owner, owner, str, owner.transaction)
    owner.close()


@asynccontextmanager
async def psycopg_sync_cursor(dsn: str) -> AsyncIterator[Lent]:
    owner = await asyncio.to_thread(lambda: psycopg.Connection.connect(dsn))
    yield SyncLent(owner.cursor(), owner, str, owner.transaction)
    owner.close()


def async_session(driver: str, **options: Any) -> Callable[[str], Opened]:
    @asynccontextmanager
    async def opened(dsn: str) -> AsyncIterator[Lent]:
        engine = create_async_engine(url(dsn, driver), **options)
        async with AsyncSession(engine) as session:
            yield AsyncLent(session, session, text, session.begin_nested)
        await engine.dispose()

    return opened


def async_connection(driver: str, **options: Any) -> Callable[[str], Opened]:
    @asynccontextmanager
    async def opened(dsn: str) -> AsyncIterator[Lent]:
        engine = create_async_engine(url(dsn, driver), **options)
        async with engine.connect() as connection:
            yield AsyncLent(connection, connection, text, connection.begin_nested)
        await engine.dispose()

    return opened


@asynccontextmanager
async def scoped_async_session(dsn: str) -> AsyncIterator[Lent]:
    engine = create_async_engine(url(dsn, "psycopg"))
    # Its usual scope is the task; a fixture and its test run in several.
    scoped = async_scoped_session(async_sessionmaker(engine), scopefunc=lambda: "the test")
    yield AsyncLent(scoped, scoped, text, lambda: scoped().begin_nested())
    await scoped.remove()
    await engine.dispose()


def session(driver: str, **options: Any) -> Callable[[str], Opened]:
    @asynccontextmanager
    async def opened(dsn: str) -> AsyncIterator[Lent]:
        engine = create_engine(url(dsn, driver), **options)
        session = Session(engine)
        yield SyncLent(session, session, text, session.begin_nested)
        await asyncio.to_thread(session.close)
        engine.dispose()

    return opened


def connection(driver: str, **options: Any) -> Callable[[str], Opened]:
    @asynccontextmanager
    async def opened(dsn: str) -> AsyncIterator[Lent]:
        engine = create_engine(url(dsn, driver), **options)
        connection = await asyncio.to_thread(engine.connect)
        yield SyncLent(connection, connection, text, connection.begin_nested)
        await asyncio.to_thread(connection.close)
        engine.dispose()

    return opened


@asynccontextmanager
async def scoped_sync_session(dsn: str) -> AsyncIterator[Lent]:
    engine = create_engine(url(dsn, "psycopg"))
    # Its own scope is the thread; the threads of a test take turns with one session.
    scoped = scoped_session(sessionmaker(engine), scopefunc=lambda: "the test")
    yield SyncLent(scoped, scoped, text, scoped.begin_nested)
    scoped.remove()
    engine.dispose()


ASYNC_KINDS: Final[Mapping[str, Callable[[str], Opened]]] = {
    "psycopg AsyncConnection": psycopg_async,
    "psycopg AsyncCursor": psycopg_async_cursor,
    "AsyncSession on psycopg": async_session("psycopg_async"),
    "AsyncSession on asyncpg": async_session("asyncpg"),
    "AsyncConnection on psycopg": async_connection("psycopg_async"),
    "AsyncConnection on asyncpg": async_connection("asyncpg"),
    "async_scoped_session": scoped_async_session,
}
SYNC_KINDS: Final[Mapping[str, Callable[[str], Opened]]] = {
    "psycopg Connection": psycopg_sync,
    "psycopg Cursor": psycopg_sync_cursor,
    "Session on psycopg": session("psycopg"),
    "Session on psycopg2": session("psycopg2"),
    "Connection on psycopg": connection("psycopg"),
    "Connection on psycopg2": connection("psycopg2"),
    "scoped_session": scoped_sync_session,
}
KINDS: Final[Mapping[str, Callable[[str], Opened]]] = {**ASYNC_KINDS, **SYNC_KINDS}
