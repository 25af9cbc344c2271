"""The schema's versions: numbered migrations, what is installed, and whether it will do."""

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from psycopg import sql

from oban.engines.postgres.channels import Channels
from oban.engines.postgres.statements import PostgresOperation, Statements, Steps, quoted
from oban.errors import SchemaError

OLDEST_SERVER: Final = 140_000
FILE_NAME: Final = re.compile(r"(\d{4})_(\w+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    transactional: bool
    text: str


@dataclass(frozen=True, slots=True)
class ServerFacts:
    server_version: int
    server_version_text: str
    database: str
    jobs_exist: bool
    is_replica: bool
    schema_version: int


@cache
def migrations() -> tuple[Migration, ...]:
    """All of them, in order."""
    folder = resources.files("oban.engines.postgres") / "migrations"
    found = []
    for file in folder.iterdir():
        if match := FILE_NAME.fullmatch(file.name):
            text = file.read_text("utf-8")
            transactional = "\n-- transaction: yes\n" in text
            found.append(Migration(int(match[1]), match[2], transactional, text))
    return tuple(sorted(found, key=lambda migration: migration.version))


def latest_version() -> int:
    return migrations()[-1].version


def server_facts(statements: Statements) -> PostgresOperation[ServerFacts]:
    schema = quoted(statements.prefix)

    def steps() -> Steps[ServerFacts]:
        rows = yield statements(
            "server_facts",
            jobs_table=f"{schema}.oban_jobs",
            migrations_table=f"{schema}.oban_migrations",
        )
        ((version, text, database, jobs_exist, migrations_exist, is_replica),) = rows
        installed = 0
        if migrations_exist:
            (row,) = yield statements("schema_version")
            installed = row[0]
        return ServerFacts(version, text, database, jobs_exist, is_replica, installed)

    return PostgresOperation("server_facts", steps, repeatable=True)


def require_usable(facts: ServerFacts, prefix: str) -> None:
    """Raise SchemaError, saying which command helps, unless a node can work there."""
    place = f"database {facts.database!r}, schema {prefix!r}"
    option = "" if prefix == "public" else f" --prefix {prefix}"
    if facts.server_version < OLDEST_SERVER:
        raise SchemaError(
            f"the server is PostgreSQL {facts.server_version_text}; 14 or later is needed"
        )
    if not facts.jobs_exist:
        raise SchemaError(f"there are no Oban tables in {place}; run `oban install{option}`")
    if facts.schema_version < latest_version():
        raise SchemaError(
            f"the Oban tables in {place} are at version {facts.schema_version}, this package "
            f"needs {latest_version()}; run `oban migrate{option}`"
        )


def render(text: str, prefix: str) -> str:
    """Fill in the schema: as an identifier, or inside a literal."""
    schema = quoted(prefix)
    places = {
        "{prefix}": schema,
        "{jobs_state_name}": literal(f"{schema}.oban_job_state"),
        "{insert_channel}": literal(Channels.of(prefix).insert),
    }
    for place, value in places.items():
        text = text.replace(place, value)
    return text


def literal(text: str) -> str:
    return sql.Literal(text).as_string(None)
