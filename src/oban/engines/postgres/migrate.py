"""Bringing a schema up to date, from nothing, from an older version, or over foreign tables."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import psycopg

from oban.engines.postgres import schema
from oban.engines.postgres.connections.own import Connector
from oban.engines.postgres.migrator import INDEX, Migrator
from oban.errors import SchemaError

LABEL: Final = "oban migrate"


async def install(
    connector: Connector, prefix: str, extras: Sequence[str], lock_timeout: float
) -> list[str]:
    """Bring the schema to the latest version from wherever it stands; return what was applied."""
    async with migrating(connector, prefix, lock_timeout) as migrator:
        facts = await migrator.facts()
        if not facts.jobs_exist:
            return await install_afresh(migrator, extras)
        return [
            *await apply(migrator, schema.pending(facts.schema_version)),
            *await extend(migrator, extras),
        ]


async def migrate(connector: Connector, prefix: str, lock_timeout: float) -> list[str]:
    """Bring tables that exist to the latest version; return what was applied."""
    async with migrating(connector, prefix, lock_timeout) as migrator:
        facts = await migrator.facts()
        if not facts.jobs_exist:
            raise SchemaError(schema.problem(facts, prefix))
        return await apply(migrator, schema.pending(facts.schema_version))


async def uninstall(connector: Connector, prefix: str, lock_timeout: float) -> None:
    async with migrating(connector, prefix, lock_timeout) as migrator:
        migrator.doing = "uninstalling"
        await migrator.together(schema.uninstall_statements(prefix))


async def install_afresh(migrator: Migrator, extras: Sequence[str]) -> list[str]:
    """All at once: where nothing was, nobody waits, and a failure leaves nothing behind."""
    migrator.doing = "installing"
    await migrator.together(schema.install_statements(migrator.prefix, extras))
    return [*(migration.label for migration in schema.migrations()), *extras]


async def apply(migrator: Migrator, migrations: Sequence[schema.Migration]) -> list[str]:
    for migration in migrations:
        migrator.doing = f"migration {migration.label}"
        statements = [*migration.statements(migrator.prefix), migration.record(migrator.prefix)]
        if migration.transactional:
            await migrator.together(statements)
        else:
            await migrator.one_by_one(statements)
    return [migration.label for migration in migrations]


async def extend(migrator: Migrator, extras: Sequence[str]) -> list[str]:
    """Add the optional parts that are not there yet."""
    objects = await migrator.objects()
    missing = [name for name in extras if not objects.has(name)]
    for name in missing:
        migrator.doing = f"adding {name}"
        statements = schema.optional(name, migrator.prefix)
        if objects.published_index_exists:  # perhaps under another name
            statements = [each for each in statements if not INDEX.match(each)]
        await migrator.one_by_one(statements)
    return missing


@asynccontextmanager
async def migrating(
    connector: Connector, prefix: str, lock_timeout: float
) -> AsyncIterator[Migrator]:
    """The only session that changes this schema, on a server where that can be done."""
    async with looking(connector, prefix) as migrator:
        facts = await migrator.facts()
        if facts.server_version < schema.OLDEST_SERVER:
            raise SchemaError(schema.problem(facts, prefix))
        if facts.is_replica:
            raise SchemaError(
                f"database {facts.database!r} is a read-only standby; connect to the primary server"
            )
        migrator.lock_timeout = lock_timeout
        keeper = await connector.open(f"{LABEL} turn")
        try:
            async with migrator.alone(keeper):
                yield migrator
        finally:
            await keeper.close()


@asynccontextmanager
async def looking(connector: Connector, prefix: str) -> AsyncIterator[Migrator]:
    """A session that reads what there is. Raises SchemaError and DatabaseUnavailable."""
    connection = await connector.open(LABEL)
    migrator = Migrator(connection, prefix, direct=bool(connector.route.direct))
    try:
        yield migrator
    except psycopg.Error as error:
        raise migrator.failed(error) from error
    finally:
        await connection.close()
