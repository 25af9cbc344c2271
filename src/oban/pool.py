"""Opening the pool that an application and `oban start` share their connections from."""

from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from oban import configuration
from oban.dsn import EMBEDDED, mask_dsn
from oban.errors import ConfigurationError, DatabaseUnavailable
from oban.options import PoolOptions


async def open_pool(dsn: str, options: PoolOptions) -> AsyncConnectionPool[Any]:
    """Return a pool that has reached the database. Raises DatabaseUnavailable within its timeout.

    Its connections commit each statement by themselves.
    """
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
        dsn,
        min_size=options.min_size,
        max_size=options.max_size,
        timeout=options.timeout,
        max_lifetime=options.max_lifetime,
        max_idle=options.max_idle,
        check=AsyncConnectionPool.check_connection if options.check else None,
        kwargs={"autocommit": True},
        open=False,
    )
    try:
        await probe(dsn)
        await pool.open(wait=True, timeout=options.timeout)
    except (psycopg.Error, PoolTimeout) as error:
        await pool.close()
        raise DatabaseUnavailable(
            f"cannot connect to {mask_dsn(dsn)}: {str(error).strip()}; "
            "is the server running, and is the DSN right?"
        ) from None
    return pool


async def probe(dsn: str) -> None:
    """Fail at once, with the server's own words, where a pool would try until its timeout."""
    connection = await psycopg.AsyncConnection.connect(dsn, connect_timeout=10)
    await connection.close()


def configured_dsn(loaded: configuration.Configuration) -> str:
    """The DSN that a program without one of its own connects to."""
    if loaded.dsn is None or loaded.dsn == EMBEDDED:
        got = "no DSN is configured" if loaded.dsn is None else "the configured DSN is `embedded`"
        raise ConfigurationError(
            f'{got}; pass one to create_pool(), set OBAN_DSN, or write `dsn = "postgresql://…"` '
            "into oban.toml (a server is started only by `oban start --embedded` and "
            "`oban.embedded.start()`)"
        )
    return loaded.dsn
