"""psycopg connections, our own and borrowed ones: our own cursor and row format on each."""

from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from oban.engines.postgres.statements import Rows, Statement


class AsyncPsycopg:
    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection

    async def fetch(self, statement: Statement) -> Rows:
        async with psycopg.AsyncRawCursor(self.connection, row_factory=tuple_row) as cursor:
            await cursor.execute(statement.sql.numbered.encode(), statement.values)
            return await cursor.fetchall() if cursor.description else []

    def transaction(self) -> AbstractAsyncContextManager[object]:
        """Several statements as one, where the owner has not begun a transaction of his own."""
        if needs_transaction(self.connection):
            return self.connection.transaction()
        return nullcontext()


class SyncPsycopg:
    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection

    def fetch(self, statement: Statement) -> Rows:
        with psycopg.RawCursor(self.connection, row_factory=tuple_row) as cursor:
            cursor.execute(statement.sql.numbered.encode(), statement.values)
            return cursor.fetchall() if cursor.description else []

    def transaction(self) -> AbstractContextManager[object]:
        if needs_transaction(self.connection):
            return self.connection.transaction()
        return nullcontext()


def needs_transaction(
    connection: psycopg.AsyncConnection[Any] | psycopg.Connection[Any],
) -> bool:
    """Without autocommit the owner commits; a block of ours would commit in his place."""
    return connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE
