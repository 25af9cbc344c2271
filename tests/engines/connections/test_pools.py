"""Pools that are given or made here, opened and closed: once, again, and in another event loop."""

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool
from tests.engines.connections.test_lent import build, stored

from oban import Oban
from oban.errors import DatabaseUnavailable


def sessions(dsn: str, *, end: bool = False) -> int:
    """How many sessions this database has beside the one that asks; `end` them, and wait."""
    ending = "pg_terminate_backend(pid, 5000)" if end else "true"
    with psycopg.connect(dsn, autocommit=True) as connection:
        query = f"""select count(*) filter (where {ending}) from pg_stat_activity
          where datname = current_database() and pid <> pg_backend_pid()"""
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


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


@pytest.fixture
def unstopped(oban_dsn: str) -> Iterator[Oban]:
    """Used from one event loop after another, and stopped in the last."""
    oban = Oban(pool=oban_dsn)
    yield oban
    asyncio.run(oban.stop())
    assert oban.engine.pools.pool.closed  # type: ignore[attr-defined]


async def enqueue(oban: Oban, count: int) -> None:
    await asyncio.gather(*(oban.enqueue_many(build()) for _ in range(count)))


@pytest.mark.own_session("it has the sessions that are terminated")
def test_a_new_event_loop_has_a_pool_that_connects_again(unstopped: Oban, oban_dsn: str) -> None:
    for _ in range(2):
        asyncio.run(enqueue(unstopped, 1))
    sessions(oban_dsn, end=True)
    for _ in range(2):
        asyncio.run(enqueue(unstopped, 1))
    assert len(asyncio.run(stored(unstopped))) == 4


@pytest.mark.own_session("sessions of this database are counted")
def test_what_an_event_loop_leaves_behind_is_closed_in_the_next(
    unstopped: Oban, oban_dsn: str
) -> None:
    for _ in range(20):
        asyncio.run(enqueue(unstopped, 1))
    assert sessions(oban_dsn) <= 10


def test_an_oban_that_was_used_in_one_loop_is_started_in_another(
    unstopped: Oban, oban_dsn: str
) -> None:
    asyncio.run(enqueue(unstopped, 1))

    async def started() -> None:
        async with unstopped:
            await enqueue(unstopped, 20)

    asyncio.run(started())
    assert len(asyncio.run(stored(unstopped))) == 21
