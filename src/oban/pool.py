"""Making and opening the pool that an application shares its connections from."""

from typing import Any, Final

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from oban.dsn import check_dsn, mask_dsn, read_dsn
from oban.errors import DatabaseUnavailable
from oban.options import PoolOptions

#: What the server calls these connections, unless the DSN names the application.
LABEL: Final = "oban pool"
#: A pooler gives its clients a process number of its own: it differs from the server's answer.
BACKEND_PID: Final = b"select pg_backend_pid()"
#: Seconds after which a pool gives up a series of ever rarer tries to connect, and begins anew with
#: the next call: otherwise it may find a database that returned only after a minute.
RECONNECT_TIMEOUT: Final = 3.0


def make_pool(dsn: str, options: PoolOptions) -> AsyncConnectionPool[Any]:
    """A pool that is not open yet. Its connections commit each statement by themselves.

    Raises InvalidOption for a DSN that PostgreSQL cannot read: connecting would quote it in full.
    """
    check_dsn("the DSN", dsn)
    return AsyncConnectionPool(
        dsn,
        min_size=options.min_size,
        max_size=options.max_size,
        timeout=options.timeout,
        max_lifetime=options.max_lifetime,
        max_idle=options.max_idle,
        reconnect_timeout=RECONNECT_TIMEOUT,
        check=AsyncConnectionPool.check_connection if options.check else None,
        configure=prepare_nothing_behind_a_pooler,
        kwargs={"autocommit": True, "fallback_application_name": LABEL},
        open=False,
    )


async def prepare_nothing_behind_a_pooler(connection: psycopg.AsyncConnection[Any]) -> None:
    """The application's own statements go over this pool too, and would be prepared in time."""
    cursor = await connection.execute(BACKEND_PID, prepare=False)
    if await cursor.fetchone() != (connection.info.backend_pid,):
        connection.prepare_threshold = None


async def open_pool(dsn: str, options: PoolOptions) -> AsyncConnectionPool[Any]:
    """A pool that has reached the database. Raises DatabaseUnavailable when it cannot."""
    pool = make_pool(dsn, options)
    try:
        await probe(dsn)
        await pool.open(wait=True, timeout=options.timeout)
    except (psycopg.Error, PoolTimeout) as error:
        await pool.close()
        raise DatabaseUnavailable(
            f"cannot connect to {mask_dsn(dsn) or 'the default server of libpq'}; check that it "
            f"runs, and the DSN: {str(error).strip()}"
        ) from None
    return pool


async def probe(dsn: str) -> None:
    """Fail at once, with the server's own words, where a pool would try until its timeout."""
    given = (read_dsn(dsn) or {}).get("connect_timeout")
    connection = await psycopg.AsyncConnection.connect(dsn, connect_timeout=given or 10)
    await connection.close()
