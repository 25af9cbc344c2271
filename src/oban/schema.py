"""The tables: installing, migrating and removing them, and the SQL for those who do it themselves.

    await schema.install(pool)                  # or `oban install`
    op.execute(schema.install_sql())            # in an Alembic migration
    migrations.RunSQL(schema.install_sql())     # in a Django migration

Wherever a pool is asked for, a DSN or a PostgresEngine will do. A connection of our own is made
from it; it must reach the server itself, since behind PgBouncer in transaction mode locks and
settings do not stay with a session.
"""

from dataclasses import dataclass
from typing import Any, Literal

from psycopg_pool import AsyncConnectionPool

from oban.dsn import check_dsn
from oban.engines.postgres import PostgresEngine
from oban.engines.postgres import migrate as applying
from oban.engines.postgres import schema as versions
from oban.engines.postgres.connections.own import Connector
from oban.engines.postgres.migrator import LOCK_TIMEOUT
from oban.engines.postgres.roles import grant_statements
from oban.engines.postgres.schema import latest_version
from oban.errors import InvalidOption
from oban.options import Options
from oban.part import check

__all__ = [
    "SchemaStatus",
    "current_version",
    "install",
    "install_sql",
    "install_statements",
    "latest_version",
    "migrate",
    "migrate_sql",
    "migrate_statements",
    "roles_sql",
    "status",
    "uninstall",
    "uninstall_sql",
    "uninstall_statements",
]

Pool = AsyncConnectionPool[Any] | PostgresEngine | str


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """What stands in one schema of a database."""

    server_version: str
    database: str
    prefix: str
    #: Whether `oban_jobs` is missing, was made by us, or by another package.
    tables: Literal["missing", "own", "foreign"]
    #: The last migration that was applied; 0 where there was none.
    version: int
    latest: int
    #: The names of the migrations to apply.
    pending: tuple[str, ...]
    insert_trigger: bool
    #: Whether nodes of Oban for Elixir find what they look for.
    elixir: bool
    #: Why a node cannot work there and which command helps, None when it can.
    problem: str | None


def install_sql(
    prefix: str = "public", *, insert_trigger: bool = False, elixir: bool = False
) -> str:
    """Return one script that makes everything in an empty database.

    It may run inside a transaction and passes unchanged through Alembic's `op.execute`, Django's
    `RunSQL` and every driver: whatever the prefix, it holds no colon and no percent sign. Over
    tables of Oban for Elixir or the published package use `install`, which blocks no writer.
    """
    return versions.script(install_statements(prefix, insert_trigger=insert_trigger, elixir=elixir))


def install_statements(
    prefix: str = "public", *, insert_trigger: bool = False, elixir: bool = False
) -> list[str]:
    """Return the statements of `install_sql` one by one, for drivers such as asyncpg."""
    return versions.install_statements(clean(prefix), extras(insert_trigger, elixir))


def migrate_sql(from_version: int, to_version: int | None = None, prefix: str = "public") -> str:
    """Return one script that leads from a version to a later one, by default the latest.

    Like `install_sql` it fits into a transaction, and so builds indexes while writers wait. On
    large tables in use let `migrate` do it. Raises SchemaError for versions there are not.
    """
    return versions.script(migrate_statements(from_version, to_version, prefix))


def migrate_statements(
    from_version: int, to_version: int | None = None, prefix: str = "public"
) -> list[str]:
    """Return the statements of `migrate_sql` one by one."""
    to_version = latest_version() if to_version is None else to_version
    return versions.migrate_statements(from_version, to_version, clean(prefix))


def uninstall_sql(prefix: str = "public") -> str:
    """Return one script that takes away what `install` brought; see `uninstall`."""
    return versions.script(uninstall_statements(prefix))


def uninstall_statements(prefix: str = "public") -> list[str]:
    """Return the statements of `uninstall_sql` one by one."""
    return versions.uninstall_statements(clean(prefix))


def roles_sql(
    prefix: str = "public",
    *,
    worker: str | None = None,
    client: str | None = None,
    reader: str | None = None,
) -> str:
    """Return one script that gives existing roles what their part needs, for their owner to run.

    `worker` runs jobs, enqueues and manages them; `client` enqueues and reads; `reader` reads. None
    of them may change the tables themselves: installing and migrating is their owner's. Run it
    again after a migration.
    """
    given = {"worker": worker, "client": client, "reader": reader}
    return versions.script(
        [
            statement
            for part, role in given.items()
            if role is not None
            for statement in grant_statements(clean(prefix), part, role)
        ]
    )


async def install(
    pool: Pool,
    prefix: str = "public",
    *,
    insert_trigger: bool = False,
    elixir: bool = False,
    lock_timeout: float = LOCK_TIMEOUT,
) -> list[str]:
    """Bring the schema to the latest version from wherever it stands; return what was applied.

    On an empty database all of it or nothing. Over existing tables, ours or another package's, it
    adds what is missing, loses and rewrites nothing, and blocks writers for no longer than
    `lock_timeout` seconds at a time. Doing it twice changes nothing; after a failure doing it again
    goes on where it stopped. The schema is created if missing.

    `insert_trigger` adds a trigger that notifies for jobs inserted by anyone, plain SQL included.
    `elixir` adds what nodes of Oban for Elixir look for. Without them, what is there stays.

    Raises SchemaError when the server is too old or refuses, Contended when a lock is not to be
    had, saying who may hold it, DatabaseUnavailable when the server cannot be reached.
    """
    return await applying.install(
        connector(pool), clean(prefix), extras(insert_trigger, elixir), lock_timeout
    )


async def migrate(
    pool: Pool, prefix: str = "public", *, lock_timeout: float = LOCK_TIMEOUT
) -> list[str]:
    """Like `install`, but only where there are tables: a SchemaError where there are none."""
    return await applying.migrate(connector(pool), clean(prefix), lock_timeout)


async def uninstall(
    pool: Pool, prefix: str = "public", *, lock_timeout: float = LOCK_TIMEOUT
) -> None:
    """Remove the tables with all their jobs, and a schema that is empty then and not `public`.

    Where another package made `oban_jobs`, that stays with its jobs and everything of that package:
    only what was added is removed. Where nothing is, nothing happens. All or nothing: SchemaError
    when something else in the database depends on the tables.
    """
    await applying.uninstall(connector(pool), clean(prefix), lock_timeout)


async def current_version(pool: Pool, prefix: str = "public") -> int:
    """Return the last migration that was applied, 0 where there was none."""
    async with applying.looking(connector(pool), clean(prefix)) as session:
        return (await session.facts()).schema_version


async def status(pool: Pool, prefix: str = "public") -> SchemaStatus:
    """Look at what is installed."""
    async with applying.looking(connector(pool), clean(prefix)) as session:
        facts, objects = await session.facts(), await session.objects()
    return SchemaStatus(
        server_version=facts.server_version_text,
        database=facts.database,
        prefix=prefix,
        tables="missing" if not facts.jobs_exist else "own" if objects.made_here else "foreign",
        version=facts.schema_version,
        latest=latest_version(),
        pending=tuple(each.label for each in versions.pending(facts.schema_version)),
        insert_trigger=objects.has(versions.INSERT_TRIGGER),
        elixir=objects.has(versions.ELIXIR),
        problem=versions.problem(facts, prefix),
    )


def connector(pool: object) -> Connector:
    match pool:
        case str():
            check_dsn("pool", pool)
            return Connector(pool)
        case AsyncConnectionPool():
            return Connector.of(pool)
        case PostgresEngine():
            return pool.pools.connector
    kind = type(pool)
    raise InvalidOption(
        f"pool is a {kind.__module__}.{kind.__qualname__}; "
        "it is a psycopg_pool.AsyncConnectionPool, a DSN, or a PostgresEngine"
    )


def clean(prefix: str) -> str:
    return str(check(Options, "", {"prefix": prefix})["prefix"])


def extras(insert_trigger: bool, elixir: bool) -> list[str]:
    wanted = {versions.INSERT_TRIGGER: insert_trigger, versions.ELIXIR: elixir}
    return [name for name, asked in wanted.items() if asked]
