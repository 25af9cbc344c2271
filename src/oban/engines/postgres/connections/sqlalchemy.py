"""SQLAlchemy sessions and connections, used through SQLAlchemy and so with any of its drivers.

Only what the caller has imported is imported here: this package does not depend on SQLAlchemy, nor
a synchronous program on what its asynchronous part needs.
"""

import sys
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import sqlalchemy
from sqlalchemy.orm import Session, scoped_session

from oban.engines.postgres.statements import Rows, Statement


def is_async_kind(connection: object) -> bool:
    part = sys.modules.get("sqlalchemy.ext.asyncio")
    return part is not None and isinstance(
        connection, (part.AsyncSession, part.AsyncConnection, part.async_scoped_session)
    )


def is_sync_kind(connection: object) -> bool:
    return isinstance(connection, (Session, sqlalchemy.Connection, scoped_session))


class AsyncSqlAlchemy:
    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def fetch(self, statement: Statement) -> Rows:
        result = await self.connection.execute(
            clause(statement.sql.named), dict(statement.parameters)
        )
        rows: Rows = result.all()
        return rows

    def transaction(self) -> AbstractAsyncContextManager[object]:
        return nullcontext()  # SQLAlchemy has begun one by itself, and its owner ends it


class SyncSqlAlchemy:
    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def fetch(self, statement: Statement) -> Rows:
        result = self.connection.execute(clause(statement.sql.named), dict(statement.parameters))
        rows: Rows = result.all()
        return rows

    def transaction(self) -> AbstractContextManager[object]:
        return nullcontext()


@lru_cache(maxsize=256)
def clause(named: str) -> sqlalchemy.TextClause:
    return sqlalchemy.text(named)
