import psycopg
import pytest
from tests.cli.conftest import Command

from oban import schema

LATEST = schema.latest_version()


def tables(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as connection:
        found = connection.execute("select relname from pg_class where relname like 'oban_%'")
        return {name for (name,) in found}


def test_install_makes_the_tables_once(command: Command, dsn: str) -> None:
    first = command("install", "--dsn", dsn)
    assert first.code == 0
    assert "applied 0001_tables" in first.out
    assert f"is ready, at version {LATEST}" in first.out
    assert "oban_jobs" in tables(dsn)
    second = command("install", "--dsn", dsn)
    assert second.code == 0
    assert "applied" not in second.out
    assert f"is up to date, at version {LATEST}" in second.out


def test_install_adds_what_is_asked_for(command: Command, dsn: str) -> None:
    ran = command("install", "--dsn", dsn, "--insert-trigger", "--elixir")
    assert "applied insert_trigger" in ran.out
    assert "applied elixir" in ran.out
    shown = command("status", "--dsn", dsn, "--json").json
    assert shown["insert_trigger"] is True
    assert shown["elixir"] is True


def test_migrate_tells_its_plan_and_carries_it_out(command: Command, dsn: str) -> None:
    command("install", "--dsn", dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("delete from oban_migrations where version > 2")
    status = command("status", "--dsn", dsn, "--json").json
    assert status["pending"][0] == "0003_columns"
    ran = command("migrate", "--dsn", dsn)
    assert ran.code == 0, ran.err
    assert f"from version 2 to {LATEST}: 0003_columns" in ran.err
    assert "applied 0003_columns" in ran.out
    assert command("migrate", "--dsn", dsn).out.endswith(f"up to date, at version {LATEST}\n")


def test_uninstall_says_what_is_lost_and_wants_to_be_told(command: Command, dsn: str) -> None:
    command("install", "--dsn", dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "insert into oban_jobs (worker) select 'w' from generate_series(1, 1204)"
        )
    refused = command("uninstall", "--dsn", dsn)
    assert refused.code == 2
    assert "with 1,204 jobs" in refused.err
    assert "oban_jobs" in tables(dsn)
    done = command("uninstall", "--dsn", dsn, "--yes")
    assert done.code == 0
    assert "with 1,204 jobs" in done.out
    assert tables(dsn) == set()


def test_uninstalling_nothing_is_fine(command: Command, dsn: str) -> None:
    ran = command("uninstall", "--dsn", dsn)
    assert ran.code == 0
    assert "there are no Oban tables" in ran.err


@pytest.mark.parametrize("name", ["install", "migrate", "uninstall"])
def test_the_embedded_server_can_be_named(command: Command, name: str) -> None:
    assert "--embedded" in command(name, "--help").out
