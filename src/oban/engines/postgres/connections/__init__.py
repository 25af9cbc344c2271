"""One small adapter per kind of connection: it sends a statement and brings its rows."""

import sys
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol

# By name: `psycopg` here is the submodule below, once it is imported.
from psycopg import AsyncConnection, AsyncCursor, Connection, Cursor

from oban.engines.postgres.connections.psycopg import AsyncPsycopg, SyncPsycopg
from oban.engines.postgres.statements import Rows, Statement
from oban.errors import UnsupportedConnection


class AsyncLink(Protocol):
    async def fetch(self, statement: Statement) -> Rows: ...

    def transaction(self) -> AbstractAsyncContextManager[object]: ...


class SyncLink(Protocol):
    def fetch(self, statement: Statement) -> Rows: ...

    def transaction(self) -> AbstractContextManager[object]: ...


ASYNC_ACCEPTED = (
    "psycopg AsyncConnection or AsyncCursor, SQLAlchemy AsyncSession or AsyncConnection"
)
SYNC_ACCEPTED = "psycopg Connection or Cursor, SQLAlchemy Session or Connection"


def borrow(connection: object, *, prepares: bool | None = False) -> AsyncLink:
    """Adapt a connection that the caller lent to an async call."""
    match connection:
        case AsyncConnection():
            return AsyncPsycopg(connection, prepares=prepares)
        case AsyncCursor():
            return AsyncPsycopg(connection.connection, prepares=prepares)
    if "sqlalchemy" in sys.modules:
        from oban.engines.postgres.connections import sqlalchemy

        if sqlalchemy.is_async_kind(connection):
            return sqlalchemy.AsyncSqlAlchemy(connection)
    raise unsupported(connection, ASYNC_ACCEPTED, "a `_sync` call takes", SYNC_ACCEPTED)


def borrow_sync(connection: object, *, prepares: bool | None = False) -> SyncLink:
    """Adapt a connection that the caller lent to a `_sync` call."""
    match connection:
        case Connection():
            return SyncPsycopg(connection, prepares=prepares)
        case Cursor():
            return SyncPsycopg(connection.connection, prepares=prepares)
    if "sqlalchemy" in sys.modules:
        from oban.engines.postgres.connections import sqlalchemy

        if sqlalchemy.is_sync_kind(connection):
            return sqlalchemy.SyncSqlAlchemy(connection)
    raise unsupported(connection, SYNC_ACCEPTED, "a call that is awaited takes", ASYNC_ACCEPTED)


def unsupported(
    connection: object, accepted: str, other_call: str, others: str
) -> UnsupportedConnection:
    kind = type(connection)
    return UnsupportedConnection(
        f"conn is a {kind.__module__}.{kind.__qualname__}; this call takes {accepted} "
        f"({other_call} {others})"
    )
