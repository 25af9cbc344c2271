"""Installing, migrating and removing our own tables."""

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool
from tests.engines.catalog import execute, names, objects, schema_exists, value
from tests.roads import direct

from oban import Job, schema
from oban.engines.postgres import PostgresEngine
from oban.engines.postgres.schema import (
    ServerFacts,
    identifier,
    migrations,
    problem,
    require_usable,
    text,
)
from oban.errors import DatabaseUnavailable, InvalidOption, SchemaError

LABELS = [migration.label for migration in migrations()]
ALL = {"insert_trigger": True, "elixir": True}
HOSTILE = [
    "Capital and space",
    'quo"te',
    "apos'trophe",
    "per%cent %s %(x)s",
    "colon:name ::x",
    "dollar $$ $1",
    "back\\slash \\:x",
    "semi;colon; --",
    "{prefix_text}",
    "naïve-日本語-🙂",
    "x" * 40,
]


async def test_after_install_an_engine_can_open_and_insert(dsn: str) -> None:
    assert await schema.install(dsn) == LABELS
    engine = PostgresEngine(dsn)
    await engine.open()
    (job,) = await engine.execute(engine.insert([Job(worker="app.Mailer")]))
    await engine.close()
    assert job.id == 1


async def test_installing_twice_changes_nothing(dsn: str) -> None:
    await schema.install(dsn, "jobs", **ALL)
    before = objects(dsn, "jobs", versions=True)
    assert await schema.install(dsn, "jobs", **ALL) == []
    assert await schema.install(dsn, "jobs") == []
    assert await schema.migrate(dsn, "jobs") == []
    assert objects(dsn, "jobs", versions=True) == before


async def test_the_script_and_the_call_make_the_same(
    dsn: str, create_database: Callable[[], str]
) -> None:
    other = create_database()
    await schema.install(dsn, "jobs", **ALL)
    execute(other, schema.install_sql("jobs", **ALL))
    assert objects(dsn, "jobs") == objects(other, "jobs")
    before = objects(other, "jobs")
    execute(other, *schema.install_statements("jobs", **ALL))
    assert objects(other, "jobs") == before


async def test_every_kind_of_pool_will_do(dsn: str) -> None:
    async with AsyncConnectionPool(dsn, open=False, min_size=1) as pool:
        assert await schema.install(pool) == LABELS
        assert await schema.current_version(pool) == schema.latest_version()
    engine = PostgresEngine(dsn)
    assert (await schema.status(engine)).problem is None
    with pytest.raises(InvalidOption, match=r"pool is a builtins\.int; it is a psycopg_pool"):
        await schema.install(5)  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="not a connection string"):
        await schema.install("postgresql+asyncpg://me:secret@host/db")


async def test_sessions_that_install_at_once_take_turns(dsn: str) -> None:
    results = await asyncio.gather(*(schema.install(dsn, "jobs", **ALL) for _ in range(5)))
    assert sorted(map(len, results)) == [0, 0, 0, 0, len(LABELS) + 2]
    assert await schema.current_version(dsn, "jobs") == schema.latest_version()


@pytest.fixture(scope="module")
def emptied(create_database: Callable[[], str]) -> str:
    """A database for tests that see to it themselves that nothing is left there."""
    return create_database()


@pytest.mark.parametrize("prefix", HOSTILE)
async def test_any_prefix_is_an_identifier_and_nothing_else(emptied: str, prefix: str) -> None:
    dsn = emptied
    await schema.install(dsn, prefix, **ALL)
    engine = PostgresEngine(dsn, prefix)
    await engine.open()
    async with await psycopg.AsyncConnection.connect(direct(dsn), autocommit=True) as listening:
        channel = sql.Identifier(f"{prefix}.oban_insert")
        await listening.execute(sql.SQL("listen {}").format(channel))
        await engine.execute(engine.insert([Job(worker="app.Mailer")]))
        heard = [each async for each in listening.notifies(timeout=5, stop_after=1)]
    await engine.close()
    assert [each.payload for each in heard] == ['{"queue" : "default"}']
    assert await schema.status(dsn, prefix) == schema.SchemaStatus(
        server_version=value(dsn, "show server_version"),
        database=value(dsn, "select current_database()"),
        prefix=prefix,
        tables="own",
        version=schema.latest_version(),
        latest=schema.latest_version(),
        pending=(),
        insert_trigger=True,
        elixir=True,
        problem=None,
    )
    await schema.uninstall(dsn, prefix)
    assert not schema_exists(dsn, prefix)
    assert names(dsn, "relation") == set()


@pytest.mark.parametrize("prefix", HOSTILE)
def test_scripts_hold_nothing_that_a_carrier_would_read(prefix: str) -> None:
    scripts = [
        schema.install_sql(prefix, **ALL),
        schema.migrate_sql(0, prefix=prefix),
        schema.uninstall_sql(prefix),
    ]
    for script in scripts:
        assert not re.search(r":\w|%|\bconcurrently\b", script)
        assert "{" not in script.replace("'{}'", "")


@pytest.fixture(scope="module")
def connection(server_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        yield connection


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=15))
@settings(deadline=None, max_examples=200)
def test_names_and_texts_are_read_by_the_server_as_they_were(
    connection: psycopg.Connection[Any], name: str
) -> None:
    cursor = connection.execute(f"select {text(name)} as {identifier(name)}".encode())
    assert cursor.fetchone() == (name,)
    assert cursor.description is not None
    assert cursor.description[0].name == name


@pytest.mark.parametrize("prefix", ["", "x" * 41, "é" * 21, "nul\0", "\ud800"])
def test_a_prefix_that_cannot_be_one_is_refused(prefix: str) -> None:
    for call in (schema.install_sql, schema.uninstall_sql, schema.install_statements):
        with pytest.raises(InvalidOption, match="prefix"):
            call(prefix)


async def test_a_schema_goes_through_every_version(dsn: str) -> None:
    assert await schema.current_version(dsn) == 0
    for version in range(1, schema.latest_version() + 1):
        execute(dsn, schema.migrate_sql(version - 1, version))
        assert await schema.current_version(dsn) == version
        status = await schema.status(dsn)
        assert status.pending == tuple(LABELS[version:])
        assert (status.problem is None) == (version == schema.latest_version())


async def test_the_way_from_nothing_is_the_whole_script() -> None:
    assert schema.migrate_sql(0) == schema.install_sql()
    assert schema.migrate_sql(schema.latest_version()) == ""
    assert schema.migrate_sql(0, 2) + schema.migrate_sql(2) == schema.install_sql()


@pytest.mark.parametrize(("start", "end"), [(-1, 1), (2, 1), (0, 999), (999, None)])
def test_a_way_that_does_not_exist_is_refused(start: int, end: int | None) -> None:
    with pytest.raises(SchemaError, match=r"there is no way from version .*; versions go up"):
        schema.migrate_sql(start, end)


async def test_migrate_brings_an_older_schema_up_to_date(dsn: str) -> None:
    execute(dsn, schema.migrate_sql(0, 2))
    engine = PostgresEngine(dsn)
    with pytest.raises(SchemaError, match=r"at version 2, this package needs .*`oban migrate`"):
        await engine.open()
    await engine.close()
    assert await schema.migrate(dsn) == LABELS[2:]
    assert (await schema.status(dsn)).problem is None


async def test_migrate_makes_no_tables_where_there_are_none(dsn: str) -> None:
    with pytest.raises(SchemaError, match=r"no Oban tables .*'job s'; run `oban install --prefix"):
        await schema.migrate(dsn, "job s")
    assert not schema_exists(dsn, "job s")


async def test_tables_dropped_by_hand_are_made_again(dsn: str) -> None:
    await schema.install(dsn)
    execute(dsn, "drop table oban_jobs")
    assert await schema.current_version(dsn) == 0
    assert await schema.install(dsn) == LABELS
    assert (await schema.status(dsn)).problem is None


def facts(version: int, text: str) -> ServerFacts:
    return ServerFacts(version, text, "app", True, False, schema.latest_version())


def test_a_server_before_14_is_refused_by_its_version() -> None:
    require_usable(facts(140_000, "14.0"), "public")
    with pytest.raises(SchemaError, match=r"PostgreSQL 13\.11; 14 or later is needed"):
        require_usable(facts(130_011, "13.11"), "public")
    assert problem(facts(180_000, "18.0"), "public") is None


async def test_uninstalling_twice_or_where_nothing_is_does_nothing(dsn: str) -> None:
    for prefix in ("public", "never there"):
        await schema.uninstall(dsn, prefix)
        await schema.install(dsn, prefix, **ALL)
        await schema.uninstall(dsn, prefix)
        await schema.uninstall(dsn, prefix)
        assert objects(dsn, prefix) == set()
    assert schema_exists(dsn, "public")
    assert not schema_exists(dsn, "never there")


async def test_a_schema_with_other_things_in_it_stays(dsn: str) -> None:
    execute(dsn, "create schema app", "create table app.users (id int)")
    await schema.install(dsn, "app")
    await schema.install(dsn, "other")
    await schema.uninstall(dsn, "app")
    assert names(dsn, "relation", "app") == {"users"}
    assert await schema.current_version(dsn, "other") == schema.latest_version()


async def test_nothing_is_dropped_that_something_else_needs(dsn: str) -> None:
    await schema.install(dsn)
    execute(dsn, "create view report as select count(*) from oban_jobs")
    before = objects(dsn)
    with pytest.raises(SchemaError, match=r"uninstalling in schema 'public' .*depend") as raised:
        await schema.uninstall(dsn)
    assert "view report depends on table oban_jobs" in str(raised.value)
    assert objects(dsn) == before


async def test_a_server_that_does_not_answer_is_one_clear_error() -> None:
    for call in (schema.install, schema.migrate, schema.uninstall, schema.status):
        with pytest.raises(DatabaseUnavailable, match="cannot connect to the database"):
            await call("host=127.0.0.1 port=1 connect_timeout=2")


@pytest.fixture
def role(server_dsn: str, dsn: str) -> Iterator[str]:
    """A role that may connect and nothing else."""
    name = f"oban_test_{uuid4().hex[:8]}"
    execute(
        dsn,
        f"create role {name} login password 'word'",
        "revoke create on schema public from public",
    )
    yield name
    execute(dsn, f"drop owned by {name}", f"drop role {name}")


def as_role(dsn: str, role: str) -> str:
    return make_conninfo(dsn, user=role, password="word")


@pytest.mark.own_session("it logs in for everybody")
async def test_a_role_without_rights_is_told_what_it_lacks(dsn: str, role: str) -> None:
    for prefix in ("public", "jobs"):
        with pytest.raises(SchemaError, match=r"permission denied for .*; connect as a role that"):
            await schema.install(as_role(dsn, role), prefix)
    assert objects(dsn) == set()


@pytest.mark.own_session("it logs in for everybody")
async def test_rights_in_an_existing_schema_are_enough(dsn: str, role: str) -> None:
    execute(dsn, f"create schema jobs authorization {role}")
    assert await schema.install(as_role(dsn, role), "jobs") == LABELS


async def test_plain_sql_notifies_once_per_queue_and_statement(dsn: str) -> None:
    await schema.install(dsn, insert_trigger=True)
    async with await psycopg.AsyncConnection.connect(direct(dsn), autocommit=True) as listening:
        await listening.execute('listen "public.oban_insert"')
        execute(
            dsn,
            "insert into oban_jobs (worker, queue) "
            "select 'w', unnest(array['a', 'b']) from generate_series(1, 50)",
            "insert into oban_jobs (worker, queue, state) values ('w', 'late', 'scheduled')",
            "insert into oban_jobs (worker) select 'none' where false",
            "insert into oban_jobs (worker, queue) values ('w', 'quote\"d')",
        )
        heard = [each.payload async for each in listening.notifies(timeout=5, stop_after=3)]
        heard += [each.payload async for each in listening.notifies(timeout=0.2)]
    assert sorted(heard) == [
        '{"queue" : "a"}',
        '{"queue" : "b"}',
        '{"queue" : "quote\\"d"}',
    ]


async def test_our_own_inserts_are_not_told_twice_with_the_trigger(dsn: str) -> None:
    await schema.install(dsn)
    assert await schema.install(dsn, insert_trigger=True) == ["insert_trigger"]
    engine = PostgresEngine(dsn)
    async with await psycopg.AsyncConnection.connect(direct(dsn), autocommit=True) as listening:
        await listening.execute('listen "public.oban_insert"')
        await engine.execute(engine.insert([Job(worker="w"), Job(worker="w")]))
        heard = [each.payload async for each in listening.notifies(timeout=5, stop_after=1)]
        heard += [each.payload async for each in listening.notifies(timeout=0.2)]
    await engine.close()
    assert heard == ['{"queue" : "default"}']


async def test_what_elixir_looks_for_can_be_added_later(dsn: str) -> None:
    await schema.install(dsn)
    assert not (await schema.status(dsn)).elixir
    assert await schema.install(dsn, elixir=True) == ["elixir"]
    assert (await schema.status(dsn)).elixir
    assert value(dsn, "select obj_description('oban_jobs'::regclass)") == "14"
    assert "oban_peers" in names(dsn, "relation")
    assert "oban_jobs_state_queue_priority_scheduled_at_id_index" in names(dsn, "index")


OPTIONS = "select reloptions from pg_class where oid = 'oban_jobs'::regclass"


async def test_vacuum_is_told_to_come_oftener_unless_somebody_has_said_when(
    dsn: str, create_database: Callable[[], str]
) -> None:
    await schema.install(dsn)
    assert "autovacuum_vacuum_scale_factor=0.05" in value(dsn, OPTIONS)
    for heartbeats in ("oban_producers", "oban_leases"):
        said = value(dsn, OPTIONS.replace("oban_jobs", heartbeats))
        assert "autovacuum_vacuum_threshold=1000" in said
    other = create_database()
    execute(other, schema.migrate_sql(0, 9), "alter table oban_jobs set (autovacuum_enabled = off)")
    await schema.migrate(other)
    assert value(other, OPTIONS) == ["autovacuum_enabled=off"]
