"""A real PostgreSQL for every test: embedded, or the one that OBAN_TEST_DSN names.

OBAN_TEST_ROAD runs all of them over a worse road to it, see `tests.roads`.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests import roads

import oban.embedded
import oban.schema
from oban import Oban, telemetry
from oban.engines.postgres import PostgresEngine

TABLES = (
    "oban_cron_slots",
    "oban_jobs",
    "oban_leaders",
    "oban_leases",
    "oban_limiters",
    "oban_metrics",
    "oban_metrics_mark",
    "oban_owned_queues",
    "oban_owners",
    "oban_partitions",
    "oban_producers",
    "oban_queue_intents",
    "oban_stacks",
    "oban_unique",
)
#: Bytes of a table that is rather truncated than emptied row by row.
LARGE = 500_000

FOLDER = "OBAN_TEST_FOLDER"


def pytest_configure(config: pytest.Config) -> None:
    """What this process and those it starts have in common: a folder for the server, and Ctrl-C."""
    for line in roads.MARKERS:
        config.addinivalue_line("markers", line)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started in a script's background or by nohup: programs under test would ignore it too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if FOLDER not in os.environ:
        # Not pytest's own folder: run by root, the server's account could not enter it.
        folder = Path(tempfile.mkdtemp(prefix="oban-test-"))
        folder.chmod(0o755)
        os.environ[FOLDER] = str(folder)


def pytest_unconfigure() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folder = Path(os.environ.pop(FOLDER))
        oban.embedded.stop(folder / "postgres")
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server_dsn() -> Iterator[str]:
    """The server, as a superuser; shared by the processes that run tests in parallel."""
    if given := os.environ.get("OBAN_TEST_DSN"):
        yield given
        return
    folder = Path(os.environ[FOLDER])
    with oban.embedded.start(folder / "postgres", durable=False) as server:
        # It would go round hundreds of small databases, a process for each.
        for statement in ("alter system set autovacuum = off", "select pg_reload_conf()"):
            administer(server.dsn, sql.SQL(statement))
        yield server.dsn


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if reason := roads.closed(item):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=roads.UNHEARD)
def unheard(server_dsn: str) -> Iterator[None]:
    with roads.unheard(server_dsn):
        yield


@pytest.fixture(scope="session")
def road(server_dsn: str) -> Iterator[str]:
    """The server as the tests' databases are reached on it."""
    with roads.to(server_dsn) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def create_database(server_dsn: str, road: str) -> Iterator[Callable[[], str]]:
    """Make an empty database and return its DSN; on a given server it is dropped at the end."""
    made: list[str] = []
    numbers = count(1)

    def create() -> str:
        name = f"oban_test_{uuid4().hex[:8]}_{next(numbers)}"
        administer(server_dsn, sql.SQL("create database {}").format(sql.Identifier(name)))
        made.append(name)
        return make_conninfo(road, dbname=name)

    yield create
    if "OBAN_TEST_DSN" not in os.environ:
        return  # the server goes with all of them
    for name in made:
        drop = sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
        administer(server_dsn, drop)


def administer(dsn: str, statement: sql.SQL | sql.Composed) -> None:
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


@pytest.fixture(scope="session")
def emptying() -> Iterator[Callable[[str], None]]:
    """Empty our tables in a database, over a connection that is kept: the tests are thousands."""
    kept: dict[str, psycopg.Connection] = {}

    def run(dsn: str) -> None:
        try:
            empty(connection(dsn))
        except psycopg.OperationalError:  # a test has ended all sessions, or the server
            kept.pop(dsn).close()
            empty(connection(dsn))

    def connection(dsn: str) -> psycopg.Connection:
        if dsn not in kept:
            # A pooler may give each statement another session.
            kept[dsn] = psycopg.connect(dsn, autocommit=True, prepare_threshold=None)
        return kept[dsn]

    yield run
    for each in kept.values():
        each.close()


@pytest.fixture
def oban_dsn(installed_dsn: str, emptying: Callable[[str], None]) -> str:
    """A database with our tables, all of them empty."""
    emptying(installed_dsn)
    return installed_dsn


def empty(connection: psycopg.Connection) -> None:
    """Delete every row: truncating makes new files, which takes far longer than few rows do."""
    row = connection.execute("select pg_relation_size('oban_jobs')").fetchone()
    assert row is not None
    if row[0] > LARGE:
        connection.execute(f"truncate {', '.join(TABLES)} restart identity")
        return
    deletes = [f"delete from {table}" for table in TABLES]
    restart = "select setval(pg_get_serial_sequence('oban_jobs', 'id'), 1, false)"
    connection.execute("; ".join([*deletes, restart]))


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
