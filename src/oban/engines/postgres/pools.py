"""The pools behind enqueue and management: the caller's async pool, or one of our own, and a small
sync one for code without an event loop.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from oban.engines.postgres.connections.own import Connector
from oban.engines.postgres.faults import is_lost
from oban.errors import DatabaseUnavailable, InvalidOption
from oban.options import PoolOptions
from oban.pool import make_pool

SYNC_LABEL: Final = "oban sync"
SYNC_SIZE: Final = 4


class Pools:
    def __init__(self, pool: object) -> None:
        #: Whether it was made here, from a DSN, and whether it was opened here.
        self.made = self.owned = isinstance(pool, str)
        self.pool: AsyncConnectionPool[Any] = pool_of(pool)
        self.connector = Connector.of(self.pool)
        self.opening = asyncio.Lock()
        self.idle_sync: list[psycopg.Connection[Any]] = []
        self.sync_guard = threading.Lock()
        self.sync_slots = threading.BoundedSemaphore(SYNC_SIZE)

    async def open(self, *, wait: bool = False) -> None:
        """Open the pool if nobody has: a pool made with `open=False`, or made here from a DSN.

        To `wait` until it is connected keeps a pool of ours small: asked before, it opens one
        connection more for whoever asks.
        """
        if self.is_open():
            return
        async with self.opening:
            if self.is_open():
                return
            try:
                await self.pool.open()
            except psycopg.OperationalError as error:
                if not self.made:  # only its owner knows all that it was made of
                    raise DatabaseUnavailable(
                        f"the pool given as `pool=` is closed ({error}); make a new one, or give "
                        "a DSN where an Oban is to start more than once"
                    ) from error
                self.pool = pool_of(self.pool.conninfo)
                await self.pool.open()
            self.owned = True
            if wait and self.made:
                try:
                    await self.pool.wait(self.pool.timeout)
                except PoolTimeout as error:
                    raise DatabaseUnavailable(f"no connection from the pool: {error}") from error

    def is_open(self) -> bool:
        return not self.pool.closed

    async def close(self) -> None:
        """Close what was opened here; a pool that came open stays open."""
        with self.sync_guard:
            idle, self.idle_sync = self.idle_sync, []
        for connection in idle:
            connection.close()
        if self.owned and not self.pool.closed:
            await self.pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A connection that commits each statement by itself and is known not to be dead."""
        await self.open()
        connection = await self.living()
        try:
            autocommit = connection.autocommit
            if not autocommit:
                await connection.set_autocommit(True)
            try:
                yield connection
            finally:
                if connection.info.transaction_status != TransactionStatus.IDLE:
                    # Cut short in the middle of something: nobody shall be handed the rest of it.
                    await connection.close()
                elif not autocommit:
                    await connection.set_autocommit(False)
        finally:
            await self.pool.putconn(connection)

    async def living(self) -> psycopg.AsyncConnection[Any]:
        while True:
            try:
                connection: psycopg.AsyncConnection[Any] = await self.pool.getconn()
            except (PoolTimeout, PoolClosed) as error:
                raise DatabaseUnavailable(f"no connection from the pool: {error}") from error
            if not is_lost(connection):
                return connection
            await connection.close()
            await self.pool.putconn(connection)

    @contextmanager
    def sync_connection(self) -> Iterator[psycopg.Connection[Any]]:
        """The same for sync code: a few connections, opened when needed and kept for the next."""
        if not self.sync_slots.acquire(timeout=self.pool.timeout):
            raise DatabaseUnavailable(
                f"no connection for a `_sync` call within {self.pool.timeout:g} s: "
                f"all {SYNC_SIZE} are busy"
            )
        try:
            connection = self.idle_connection() or self.connector.open_sync(SYNC_LABEL)
            try:
                yield connection
            finally:
                if connection.info.transaction_status != TransactionStatus.IDLE:
                    connection.close()
                else:
                    with self.sync_guard:
                        self.idle_sync.append(connection)
        finally:
            self.sync_slots.release()

    def idle_connection(self) -> psycopg.Connection[Any] | None:
        while True:
            with self.sync_guard:
                if not self.idle_sync:
                    return None
                connection = self.idle_sync.pop()
            if not is_lost(connection):
                return connection
            connection.close()


def pool_of(given: object) -> AsyncConnectionPool[Any]:
    match given:
        case AsyncConnectionPool():
            return given
        case str():
            return make_pool(given, PoolOptions())
    kind = type(given)
    raise InvalidOption(
        f"pool is a {kind.__module__}.{kind.__qualname__}; "
        "it is a psycopg_pool.AsyncConnectionPool, a DSN, or an Engine"
    )
