"""Connections of every kind are lent to Oban; the tables are ours, one kind is enough here."""

from collections.abc import AsyncIterator, Callable

import psycopg
import pytest
from tests.engines.connections.heard import Heard

from oban import schema


@pytest.fixture(scope="session")
def installed_dsn(create_database: Callable[[], str]) -> str:
    dsn = create_database()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(schema.install_sql().encode())
    return dsn


@pytest.fixture
async def heard(oban_dsn: str) -> AsyncIterator[Heard]:
    """What every other node hears."""
    async with Heard.listening(oban_dsn) as heard:
        yield heard
