"""A real PostgreSQL for every test: embedded, or the one that OBAN_TEST_DSN names."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

import oban.embedded
import oban.schema
from oban import Oban, telemetry
from oban.engines.postgres import PostgresEngine

TABLES = ("oban_jobs", "oban_leaders", "oban_producers", "oban_owners", "oban_owned_queues")


@pytest.fixture(scope="session")
def server_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server, as a superuser; shared by the processes that run tests in parallel."""
    if given := os.environ.get("OBAN_TEST_DSN"):
        yield given
        return
    run = tmp_path_factory.getbasetemp()
    folder = run.parent if "PYTEST_XDIST_WORKER" in os.environ else run
    with oban.embedded.start(Path(folder) / "postgres", durable=False) as server:
        yield server.dsn


@pytest.fixture(scope="session")
def create_database(server_dsn: str) -> Iterator[Callable[[], str]]:
    """Make an empty database and return its DSN; all are dropped at the end."""
    made: list[str] = []
    numbers = count(1)

    def create() -> str:
        name = f"oban_test_{uuid4().hex[:8]}_{next(numbers)}"
        administer(server_dsn, sql.SQL("create database {}").format(sql.Identifier(name)))
        made.append(name)
        return make_conninfo(server_dsn, dbname=name)

    yield create
    for name in made:
        drop = sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
        administer(server_dsn, drop)


def administer(dsn: str, statement: sql.Composed) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement)


@pytest.fixture
def dsn(create_database: Callable[[], str]) -> str:
    """A database of the test's own, without any table."""
    return create_database()


@pytest.fixture(scope="session")
def installed_dsn(create_database: Callable[[], str]) -> str:
    dsn = create_database()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(oban.schema.install_sql().encode())
    return dsn


@pytest.fixture
def oban_dsn(installed_dsn: str) -> str:
    """A database with our tables, all of them empty."""
    with psycopg.connect(installed_dsn, autocommit=True) as connection:
        connection.execute(f"truncate {', '.join(TABLES)} restart identity")
    return installed_dsn


@pytest.fixture
async def engine(oban_dsn: str) -> AsyncIterator[PostgresEngine]:
    engine = PostgresEngine(oban_dsn)
    await engine.open()
    yield engine
    await engine.close()


@pytest.fixture
async def client(oban_dsn: str) -> AsyncIterator[Oban]:
    """An Oban without queues: it enqueues and manages."""
    async with Oban(pool=oban_dsn) as client:
        yield client


Event = tuple[str, telemetry.Metadata]


@pytest.fixture
def events() -> Iterator[list[Event]]:
    """Every telemetry event, in order."""
    heard: list[Event] = []
    name = f"test-{uuid4()}"
    telemetry.attach(name, "oban.*", lambda event, metadata: heard.append((event, metadata)))
    yield heard
    telemetry.detach(name)
