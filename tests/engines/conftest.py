"""Tests that ask for an engine run on each kind of tables: ours and the foreign ones.

They share one engine for each kind, and so its sessions and what those have prepared.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest
from tests.engines.foreign_tables import KINDS, tables_sql

from oban import schema
from oban.engines.postgres import PostgresEngine


@pytest.fixture(scope="session", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def installed_dsn(kind: str, create_database: Callable[[], str]) -> str:
    """A database where the tables of `kind` stood and ours were added."""
    dsn = create_database()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(tables_sql(kind).encode())
    asyncio.run(schema.install(dsn))
    return dsn


@pytest.fixture(scope="session")
async def engines() -> AsyncIterator[dict[str, PostgresEngine]]:
    """Those that were opened, by their database."""
    opened: dict[str, PostgresEngine] = {}
    yield opened
    for engine in opened.values():
        await engine.close()


@pytest.fixture
async def engine(oban_dsn: str, engines: dict[str, PostgresEngine]) -> PostgresEngine:
    if oban_dsn not in engines:
        engines[oban_dsn] = PostgresEngine(oban_dsn)
        await engines[oban_dsn].open()
    return engines[oban_dsn]
