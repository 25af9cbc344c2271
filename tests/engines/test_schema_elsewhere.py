"""The scripts inside other people's migrations: real Alembic, real Django, plain drivers."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import asyncpg
import psycopg2
import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.engines.catalog import objects, value

from oban import schema

HOSTILE = "per%cent :name $$ 'q\""
PREFIXES = ("public", HOSTILE)


class Modules:
    """A process that runs Python modules as `python -m` does, one after the other.

    To import Alembic or Django takes far longer than what they do.
    """

    PROGRAM = """
import json, os, runpy, sys

for line in sys.stdin:
    folder, environment, (module, *sys.argv[1:]) = json.loads(line)
    os.chdir(folder)
    os.environ.update(environment)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
    print("\\0", flush=True)
"""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error::SyntaxWarning", "-c", self.PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, folder: Path, *command: str, **environment: str) -> None:
        """Run a module in `folder` and fail with all it said."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([str(folder), environment, command]) + "\n")
        self.process.stdin.flush()
        said = ""
        while not said.endswith("\0\n"):
            line = self.process.stdout.readline()
            assert line, said
            said += line


@contextmanager
def modules() -> Iterator[Modules]:
    found = Modules()
    with found.process:
        yield found
        found.process.kill()


@pytest.fixture(scope="module")
def alembic() -> Iterator[Modules]:
    with modules() as found:
        yield found


@pytest.fixture
def django() -> Iterator[Modules]:
    """For one test: settings are read once."""
    with modules() as found:
        yield found


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(content), "utf-8")


@pytest.fixture
def expected(create_database: Callable[[], str], prefix: str) -> set[tuple[str, ...]]:
    """What psycopg makes of the script in one transaction."""
    import psycopg

    dsn = create_database()
    with psycopg.connect(dsn) as connection:
        connection.execute(schema.install_sql(prefix, insert_trigger=True, elixir=True).encode())
    return objects(dsn, prefix)


ALEMBIC = {
    "alembic.ini": """
        [alembic]
        script_location = %(here)s/scripts
        path_separator = os
    """,
    "scripts/env.py": """
        import asyncio, os
        from alembic import context
        from sqlalchemy import create_engine, pool
        from sqlalchemy.engine import URL
        from sqlalchemy.ext.asyncio import create_async_engine
        from psycopg.conninfo import conninfo_to_dict

        given = conninfo_to_dict(os.environ["DSN"])
        url = URL.create(
            "postgresql+" + os.environ["DRIVER"],
            given.get("user"), given.get("password"), None, None, given["dbname"],
            {"host": given["host"], "port": str(given.get("port", 5432))},
        )

        def upgrade(connection):
            context.configure(connection=connection)
            with context.begin_transaction():
                context.run_migrations()

        async def upgrade_async():
            engine = create_async_engine(url, poolclass=pool.NullPool)
            async with engine.connect() as connection:
                await connection.run_sync(upgrade)
            await engine.dispose()

        if os.environ["DRIVER"] == "asyncpg":
            asyncio.run(upgrade_async())
        else:
            with create_engine(url, poolclass=pool.NullPool).connect() as connection:
                upgrade(connection)
    """,
    "scripts/versions/0001_oban.py": """
        import os
        from alembic import op
        from oban import schema

        revision, down_revision = "0001", None
        prefix = os.environ["PREFIX"]
        wanted = {"insert_trigger": True, "elixir": True}

        def upgrade():
            if os.environ["DRIVER"] == "asyncpg":  # it takes one statement at a time
                for statement in schema.install_statements(prefix, **wanted):
                    op.execute(statement)
            else:
                op.execute(schema.install_sql(prefix, **wanted))

        def downgrade():
            if os.environ["DRIVER"] == "asyncpg":
                for statement in schema.uninstall_statements(prefix):
                    op.execute(statement)
            else:
                op.execute(schema.uninstall_sql(prefix))
    """,
}


# In the schema public the documentation's own migrations run, in tests/docs/test_migrations.py.
@pytest.mark.parametrize(
    ("driver", "prefix"),
    [
        ("psycopg", HOSTILE),
        ("psycopg2", HOSTILE),
        pytest.param(
            "asyncpg", HOSTILE, marks=pytest.mark.own_session("asyncpg prepares what Alembic sends")
        ),
    ],
)
def test_alembic_installs_and_removes_the_tables(
    dsn: str,
    tmp_path: Path,
    driver: str,
    prefix: str,
    expected: set[tuple[str, ...]],
    alembic: Modules,
) -> None:
    write(tmp_path, ALEMBIC)
    before = objects(dsn, prefix)
    environment = {"DSN": dsn, "DRIVER": driver, "PREFIX": prefix}
    alembic.run(tmp_path, "alembic", "upgrade", "head", **environment)
    assert without(objects(dsn, prefix), "alembic_version") == expected
    alembic.run(tmp_path, "alembic", "downgrade", "base", **environment)
    assert without(objects(dsn, prefix), "alembic_version") == before


def without(found: set[tuple[str, ...]], name: str) -> set[tuple[str, ...]]:
    return {each for each in found if not each[1].startswith(name)}


DJANGO = {
    "settings.py": """
        import os
        from psycopg.conninfo import conninfo_to_dict

        given = conninfo_to_dict(os.environ["DSN"])
        DATABASES = {"default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": given["dbname"], "USER": given.get("user"),
            "PASSWORD": given.get("password") or "", "HOST": given["host"],
            "PORT": given.get("port", 5432),
        }}
        INSTALLED_APPS = ["jobs"]
    """,
    "jobs/__init__.py": "",
    "jobs/migrations/__init__.py": "",
    "jobs/migrations/0001_oban.py": """
        import os
        from django.db import migrations
        from oban import schema

        prefix = os.environ["PREFIX"]

        class Migration(migrations.Migration):
            initial = True
            operations = [
                migrations.RunSQL(
                    schema.install_sql(prefix, insert_trigger=True, elixir=True),
                    schema.uninstall_sql(prefix),
                )
            ]
    """,
}


@pytest.mark.parametrize("prefix", [HOSTILE])
def test_django_installs_and_removes_the_tables(
    dsn: str, tmp_path: Path, prefix: str, expected: set[tuple[str, ...]], django: Modules
) -> None:
    write(tmp_path, DJANGO)
    environment = {"DSN": dsn, "PREFIX": prefix, "DJANGO_SETTINGS_MODULE": "settings"}
    django.run(tmp_path, "django", "migrate", **environment)
    assert without(objects(dsn, prefix), "django_migrations") == expected
    django.run(tmp_path, "django", "migrate", "jobs", "zero", **environment)
    assert without(objects(dsn, prefix), "django_migrations") == set()


def address(dsn: str) -> dict[str, str | None]:
    given = conninfo_to_dict(dsn)
    return {
        name: None if given.get(key) is None else str(given[key])
        for name, key in {
            "host": "host",
            "port": "port",
            "user": "user",
            "password": "password",
            "database": "dbname",
        }.items()
    }


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_asyncpg_takes_the_whole_script_or_its_statements(
    dsn: str, prefix: str, expected: set[tuple[str, ...]]
) -> None:
    connection = await asyncpg.connect(**address(dsn))
    async with connection.transaction():
        await connection.execute(schema.install_sql(prefix, insert_trigger=True, elixir=True))
    assert objects(dsn, prefix) == expected
    async with connection.transaction():
        await prepared(connection, schema.uninstall_statements(prefix))
        await prepared(
            connection, schema.install_statements(prefix, insert_trigger=True, elixir=True)
        )
    await connection.close()
    assert objects(dsn, prefix) == expected


async def prepared(connection: asyncpg.Connection, statements: Sequence[str]) -> None:
    for statement in statements:
        await (await connection.prepare(statement)).fetch()


@pytest.mark.parametrize("prefix", PREFIXES)
def test_psycopg2_takes_the_script_with_and_without_parameters(
    dsn: str, prefix: str, expected: set[tuple[str, ...]]
) -> None:
    connection = psycopg2.connect(dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute(schema.install_sql(prefix, insert_trigger=True, elixir=True), ())
        cursor.execute(schema.install_sql(prefix, insert_trigger=True, elixir=True), {"a": 1})
    connection.close()
    assert objects(dsn, prefix) == expected
    assert value(dsn, "select count(*) from pg_class where relname = 'oban_jobs'") == 1
