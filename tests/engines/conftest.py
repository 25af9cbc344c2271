"""Tests that ask for an engine run on each kind of tables: ours and the foreign ones."""

import asyncio
from collections.abc import Callable

import psycopg
import pytest
from tests.engines.foreign_tables import KINDS, tables_sql

from oban import schema


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
