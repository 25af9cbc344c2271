"""Adding our part to tables of other packages, under load and through failures."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from tests.engines.catalog import HERE, execute, names, objects, value
from tests.engines.foreign_tables import FOREIGN, tables_sql

from oban import schema
from oban.engines.postgres import PostgresEngine
from oban.engines.postgres.migrator import Migrator
from oban.engines.postgres.schema import migrations
from oban.errors import Contended, DatabaseUnavailable, SchemaError

LABELS = [migration.label for migration in migrations()]
INDEXES = {
    "oban_jobs_free_index",
    "oban_jobs_due_index",
    "oban_jobs_exhausted_index",
    "oban_jobs_running_index",
}
ADDED = {"oban_owners", "oban_owned_queues", "oban_migrations"}


@pytest.fixture(params=FOREIGN)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def foreign_dsn(dsn: str, kind: str) -> str:
    """Foreign tables with a row in each state, some columns null."""
    execute(
        dsn,
        tables_sql(kind),
        """
        insert into oban_jobs (state, worker, args, tags, meta, attempted_by, attempt)
        select state, 'w', '{"n": 1}', case when n > 1 then array['t'] end,
          case when n > 1 then '{"m": 1}'::jsonb end, case when n > 1 then array['e', 'u'] end, 1
        from unnest(enum_range(null::oban_job_state)) as state, generate_series(1, 3) as n
        """,
        "update oban_jobs set errors = errors || jsonb_build_object('attempt', 1, 'error', 'e')",
    )
    return dsn


def rows(dsn: str, columns: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            f"select {columns} from oban_jobs order by id".encode()
        ).fetchall()


def columns(dsn: str) -> str:
    return ", ".join(
        sorted(each[2] for each in objects(dsn) if each[:2] == ("column", "oban_jobs"))
    )


@contextmanager
def transaction(dsn: str, *statements: str, name: str = "a report") -> Iterator[psycopg.Connection]:
    """A transaction of somebody else's that stays open."""
    with psycopg.connect(dsn, application_name=name) as connection:
        for statement in statements:
            connection.execute(statement.encode())
        yield connection
        connection.rollback()


async def test_what_is_missing_is_added_and_nothing_is_lost_or_rewritten(foreign_dsn: str) -> None:
    dsn = foreign_dsn
    kept, before = columns(dsn), objects(dsn)
    stored = rows(dsn, kept)
    file = value(dsn, "select relfilenode from pg_class where relname = 'oban_jobs'")
    assert (await schema.status(dsn)).tables == "foreign"

    assert await schema.migrate(dsn) == LABELS

    assert rows(dsn, kept) == stored
    assert value(dsn, "select relfilenode from pg_class where relname = 'oban_jobs'") == file
    assert objects(dsn) >= before  # the comment, the indexes, the nullability: all as they were
    assert names(dsn, "relation") >= ADDED | INDEXES
    assert {"suspended", "cancelled"} <= names(dsn, "label")
    assert (await schema.status(dsn)).tables == "foreign"
    engine = PostgresEngine(dsn)
    await engine.open()
    await engine.close()


async def test_install_does_the_same_and_twice_changes_nothing(foreign_dsn: str) -> None:
    applied = await schema.install(foreign_dsn, insert_trigger=True, elixir=True)
    assert applied[: len(LABELS) + 1] == [*LABELS, "insert_trigger"]
    before = objects(foreign_dsn, versions=True)
    assert await schema.install(foreign_dsn, insert_trigger=True, elixir=True) == []
    assert objects(foreign_dsn, versions=True) == before


async def test_the_mark_of_elixir_is_kept_and_its_index_not_doubled(
    foreign_dsn: str, kind: str
) -> None:
    await schema.install(foreign_dsn, elixir=True)
    version = {"elixir": "12", "published": "14"}[kind]
    assert value(foreign_dsn, "select obj_description('oban_jobs'::regclass)") == version
    indexed = "(state, queue, priority, scheduled_at, id)"
    found = [each for each in objects(foreign_dsn) if each[0] == "index" and indexed in each[2]]
    assert len(found) == 1
    assert (await schema.status(foreign_dsn)).elixir


async def test_uninstalling_takes_away_what_was_added_and_nothing_else(
    foreign_dsn: str, kind: str
) -> None:
    dsn = foreign_dsn
    kept, before = columns(dsn), objects(dsn)
    stored = rows(dsn, kept)
    await schema.install(dsn, insert_trigger=True)
    await schema.uninstall(dsn)
    assert rows(dsn, kept) == stored
    assert objects(dsn) >= before
    assert value(dsn, "select reloptions from pg_class where oid = 'oban_jobs'::regclass") is None
    left = {each for each in objects(dsn) - before if each[0] == "relation"}
    shared = {"oban_leaders", "oban_producers"} if kind == "elixir" else set()
    assert {each[1].removesuffix("_pkey") for each in left} == shared
    assert await schema.current_version(dsn) == 0
    assert await schema.install(dsn) == LABELS


async def test_two_that_migrate_at_once_take_turns(foreign_dsn: str) -> None:
    results = await asyncio.gather(*(schema.install(foreign_dsn) for _ in range(3)))
    assert sorted(results, key=len) == [[], [], LABELS]


async def test_who_holds_a_lock_is_named_and_the_next_run_goes_on(foreign_dsn: str) -> None:
    dsn = foreign_dsn
    with transaction(dsn, "select count(*) from oban_jobs") as reader:
        with pytest.raises(Contended) as raised:
            await schema.migrate(dsn, lock_timeout=0.05)
        (pid,) = reader.execute("select pg_backend_pid()").fetchone() or (None,)
    message = str(raised.value)
    assert message.startswith("migration 0003_columns in schema 'public' could not get a lock")
    assert f"held by pid {pid} (a report, " in message
    assert "idle in transaction, in a transaction for" in message
    assert await schema.current_version(dsn) == 2
    assert await schema.migrate(dsn) == LABELS[2:]


@pytest.mark.own_session("no limit of ours can be set for an index there")
async def test_an_index_that_waits_for_an_old_snapshot_says_so_and_is_built_later(
    foreign_dsn: str,
) -> None:
    dsn = foreign_dsn
    execute(dsn, schema.migrate_sql(0, 3))
    old = "set transaction isolation level repeatable read", "select 1"
    with transaction(dsn, *old) as other, pytest.raises(Contended) as raised:
        pid = other.info.backend_pid
        await schema.migrate(dsn, lock_timeout=0.005)
    assert "migration 0004_indexes" in str(raised.value)
    assert f"pid {pid} (a report, " in str(raised.value)
    assert value(dsn, "select count(*) from pg_index where not indisvalid") == 1
    assert await schema.current_version(dsn) == 3
    assert await schema.migrate(dsn) == LABELS[3:]
    assert value(dsn, "select count(*) from pg_index where not indisvalid") == 0
    assert names(dsn, "index") >= INDEXES


async def test_writers_wait_no_longer_than_the_lock_timeout(foreign_dsn: str) -> None:
    """A reader keeps the table; each try to add the columns makes writers queue behind it."""
    dsn, lock_timeout = foreign_dsn, 0.2
    longest, stop = 0.0, asyncio.Event()

    async def write() -> None:
        nonlocal longest
        async with await psycopg.AsyncConnection.connect(
            dsn, autocommit=True, prepare_threshold=None
        ) as connection:
            while not stop.is_set():
                began = time.monotonic()
                await connection.execute("insert into oban_jobs (worker) values ('w')")
                longest = max(longest, time.monotonic() - began)
                await asyncio.sleep(0.005)

    async def read() -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await connection.execute("select count(*) from oban_jobs")
            await asyncio.sleep(1.0)

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        reading = group.create_task(read())
        await asyncio.sleep(0.05)
        assert await schema.migrate(dsn, lock_timeout=lock_timeout) == LABELS
        stop.set()
    assert reading.done()
    assert lock_timeout * 0.5 < longest < lock_timeout + 0.3


async def test_a_session_that_never_ends_is_named_to_the_next(foreign_dsn: str) -> None:
    async with (
        await psycopg.AsyncConnection.connect(foreign_dsn, autocommit=True) as first,
        await psycopg.AsyncConnection.connect(foreign_dsn, autocommit=True) as second,
    ):
        waiting = Migrator(second, "public", turn_patience=0.1)
        async with Migrator(first, "public").alone(first):
            pid = await backend_pid(first)
            with pytest.raises(Contended, match=rf"somebody else for 0\.1 s.* pid {pid} \("):
                async with waiting.alone(second):
                    raise AssertionError("both had the turn")
            async with Migrator(second, "another schema", turn_patience=0.1).alone(second):
                pass
        async with waiting.alone(second):
            assert locks(foreign_dsn) == 1


async def backend_pid(connection: psycopg.AsyncConnection) -> int:
    """As the server says it: a pooler says another."""
    cursor = await connection.execute("select pg_backend_pid()")
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


def locks(dsn: str) -> int:
    statement = f"select count(*) from pg_locks where locktype = 'advisory' and {HERE}"
    return int(value(dsn, statement))


async def waiting(dsn: str) -> int:
    """The session that waits for a lock on a table, once there is one."""
    statement = f"select pid from pg_locks where not granted and locktype = 'relation' and {HERE}"
    while not (pid := value(dsn, statement)):
        await asyncio.sleep(0.01)
    return int(pid)


async def test_the_turn_is_given_up_after_a_failure_and_after_a_cancelled_wait(
    foreign_dsn: str,
) -> None:
    dsn = foreign_dsn
    with transaction(dsn, "lock table oban_jobs"):
        with pytest.raises(Contended):
            await schema.migrate(dsn, lock_timeout=0.02)
        assert locks(dsn) == 0
        task = asyncio.create_task(schema.migrate(dsn))
        await waiting(dsn)
        assert locks(dsn) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert locks(dsn) == 0
    assert await schema.migrate(dsn) == LABELS[2:]


async def test_a_cut_connection_is_said_and_the_next_run_goes_on(foreign_dsn: str) -> None:
    dsn = foreign_dsn
    with transaction(dsn, "lock table oban_jobs in access share mode"):
        task = asyncio.create_task(schema.migrate(dsn))
        value(dsn, "select pg_terminate_backend(%s)", await waiting(dsn))
        with pytest.raises(DatabaseUnavailable, match=r"0003_columns .* goes on where it stopped"):
            await task
    assert await schema.migrate(dsn) == LABELS[2:]


@pytest.mark.own_session("sessions are named by who used them last")
async def test_a_turn_that_is_lost_meanwhile_undoes_nothing(foreign_dsn: str) -> None:
    dsn = foreign_dsn
    with transaction(dsn, "lock table oban_jobs in access share mode"):
        task = asyncio.create_task(schema.migrate(dsn))
        await waiting(dsn)
        query = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where "
        mine = "application_name = 'oban migrate turn' and datname = current_database()"
        assert value(dsn, query + mine) is True
    assert await task == LABELS


async def test_a_migration_that_fails_leaves_nothing_of_itself(foreign_dsn: str) -> None:
    dsn = foreign_dsn
    execute(dsn, "create type oban_owned_queues as enum ('in the way')")
    before = objects(dsn)
    with pytest.raises(SchemaError, match=r"migration 0001_tables in schema 'public' was refused"):
        await schema.migrate(dsn)
    assert objects(dsn) == before
