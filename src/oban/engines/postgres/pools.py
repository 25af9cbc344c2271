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

from oban.engines.postgres.connections.cancelling import BriefCancelling
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
        #: The event loop that it was opened in here, and a lock of that loop.
        self.loop: asyncio.AbstractEventLoop | None = None
        self.opening = asyncio.Lock()
        self.idle_sync: list[psycopg.Connection[Any]] = []
        self.sync_guard = threading.Lock()
        self.sync_slots = threading.BoundedSemaphore(SYNC_SIZE)

    async def open(self) -> None:
        """Open the pool if nobody has: a pool made with `open=False`, or made here from a DSN.

        Who opens one of ours waits until it is connected: asked before, it opens one connection
        more, and an event loop that ends meanwhile never does.
        """
        if self.is_open():
            return
        left = self.enter(asyncio.get_running_loop())
        async with self.opening:
            if left is not None:
                await abandon(left)
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
            opened = self.pool
        if self.made:
            try:
                await opened.wait(opened.timeout)
            except PoolTimeout as error:
                raise DatabaseUnavailable(f"no connection from the pool: {error}") from error

    def enter(self, loop: asyncio.AbstractEventLoop) -> AsyncConnectionPool[Any] | None:
        """Have all that belongs to a loop belong to this one; return a pool that was left open."""
        left = None
        if self.made and not self.pool.closed and self.is_left():
            left, self.pool = self.pool, pool_of(self.pool.conninfo)
        if loop is not self.loop:
            self.loop, self.opening = loop, asyncio.Lock()
        return left

    def is_left(self) -> bool:
        """Whether the loop is gone, and with it what connects anew."""
        return self.loop is not None and self.loop.is_closed()

    def is_open(self) -> bool:
        return not self.pool.closed and not (self.made and self.is_left())

    async def close(self) -> None:
        """Close what was opened here; a pool that came open stays open."""
        with self.sync_guard:
            idle, self.idle_sync = self.idle_sync, []
        for connection in idle:
            connection.close()
        if self.owned and not self.pool.closed:
            await (abandon(self.pool) if self.is_left() else self.pool.close())

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A connection that commits each statement by itself and is known not to be dead."""
        await self.open()
        connection = await self.living()
        cancelling = BriefCancelling(connection)
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
            cancelling.end()
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


async def abandon(pool: AsyncConnectionPool[Any]) -> None:
    """Close a pool whose event loop is gone: its workers are gone too, and waiting for them fails.

    In a task, since that may fail by a cancellation, which is none of ours.
    """
    closing = asyncio.create_task(pool.close())
    await asyncio.wait([closing])
    if not closing.cancelled():
        closing.exception()


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
