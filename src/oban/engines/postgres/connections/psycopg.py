"""psycopg connections, our own and borrowed ones: our own cursor and row format on each."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import Loader
from psycopg.pq import Format, TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types.bool import BoolBinaryLoader
from psycopg.types.numeric import (
    Float8BinaryLoader,
    Int2BinaryLoader,
    Int4BinaryLoader,
    Int8BinaryLoader,
)
from psycopg.types.string import TextBinaryLoader

from oban.engines.postgres.statements import Rows, Statement

#: The types that statements return, and how psycopg reads them unless told otherwise.
LOADERS: Final[Mapping[str, type[Loader]]] = {
    "bool": BoolBinaryLoader,
    "float8": Float8BinaryLoader,
    "int2": Int2BinaryLoader,
    "int4": Int4BinaryLoader,
    "int8": Int8BinaryLoader,
    "text": TextBinaryLoader,
}
#: Which loader is there for each type as long as nobody has registered another. Ours are asked for
#: in the binary format only.
USUAL: Final = tuple(
    (oid, loader)
    for name in LOADERS
    for oid in [psycopg.adapters.types[name].oid]
    if (loader := psycopg.adapters.get_loader(oid, Format.BINARY)) is not None
)


class AsyncPsycopg:
    """`prepares` says that what is prepared on it is there for the next statement, too."""

    def __init__(
        self, connection: psycopg.AsyncConnection[Any], *, prepares: bool | None = False
    ) -> None:
        self.connection = connection
        self.prepares = prepares

    async def fetch(self, statement: Statement) -> Rows:
        async with psycopg.AsyncRawCursor(self.connection, row_factory=tuple_row) as cursor:
            query = statement.sql.numbered.encode()
            prepare = statement.prepare if self.prepares else False
            await plain(cursor).execute(query, statement.values, prepare=prepare, binary=True)
            # Not asked first whether there are rows: in a pipeline nobody knows before they come.
            return await cursor.fetchall()

    def transaction(self) -> AbstractAsyncContextManager[object]:
        """Several statements as one, where the owner has not begun a transaction of his own."""
        if needs_transaction(self.connection):
            return self.connection.transaction()
        return nullcontext()


class SyncPsycopg:
    def __init__(
        self, connection: psycopg.Connection[Any], *, prepares: bool | None = False
    ) -> None:
        self.connection = connection
        self.prepares = prepares

    def fetch(self, statement: Statement) -> Rows:
        with psycopg.RawCursor(self.connection, row_factory=tuple_row) as cursor:
            query = statement.sql.numbered.encode()
            prepare = statement.prepare if self.prepares else False
            plain(cursor).execute(query, statement.values, prepare=prepare, binary=True)
            return cursor.fetchall()

    def transaction(self) -> AbstractContextManager[object]:
        if needs_transaction(self.connection):
            return self.connection.transaction()
        return nullcontext()


C = TypeVar("C", psycopg.AsyncRawCursor[Any], psycopg.RawCursor[Any])


def plain(cursor: C) -> C:
    """A cursor inherits the loaders that the owner has registered; these read as we expect."""
    loader_of = cursor.connection.adapters.get_loader
    for oid, loader in USUAL:
        if loader_of(oid, Format.BINARY) is not loader:
            for name, ours in LOADERS.items():
                cursor.adapters.register_loader(name, ours)
            break
    return cursor


def needs_transaction(
    connection: psycopg.AsyncConnection[Any] | psycopg.Connection[Any],
) -> bool:
    """Without autocommit the owner commits; a block of ours would commit in his place."""
    return connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE
