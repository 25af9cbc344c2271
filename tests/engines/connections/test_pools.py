"""Pools that are given or made here, opened and closed: once, again, and in another event loop."""

from typing import Any

import pytest
from psycopg_pool import AsyncConnectionPool
from tests.engines.connections.test_lent import build, stored

from oban import Oban
from oban.errors import DatabaseUnavailable


@pytest.mark.parametrize(
    "conninfo", [lambda dsn: dsn, lambda dsn: lambda: dsn], ids=["text", "made"]
)
async def test_a_given_pool_that_was_closed_is_not_replaced(oban_dsn: str, conninfo: Any) -> None:
    """Nobody here knows what it was made of: one of the DSN alone may lead elsewhere."""
    pool = AsyncConnectionPool(conninfo(oban_dsn), open=False)
    oban = Oban(pool=pool)
    async with oban:
        await oban.enqueue(build())
    with pytest.raises(DatabaseUnavailable, match="the pool given as `pool=` is closed"):
        await oban.start()
    with pytest.raises(DatabaseUnavailable, match="make a new one"):
        await oban.enqueue(build())
    await oban.stop()
    assert pool.closed


async def test_a_pool_of_a_dsn_is_made_anew_at_each_start(oban_dsn: str) -> None:
    oban = Oban(pool=oban_dsn)
    for count in (1, 2, 3):
        async with oban:
            await oban.enqueue(build())
            assert len(await stored(oban)) == count
