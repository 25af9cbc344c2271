"""The schema's versions: numbered migrations, what is installed, and the SQL that brings it about.

A file of `migrations/` says in its second line whether it runs in a transaction. `{prefix}` stands
for the schema as an identifier, `{prefix_text}` for its name as text; nothing else is put in.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from oban.engines.postgres.statements import PostgresOperation, Statements, Steps, quoted
from oban.errors import SchemaError

OLDEST_SERVER: Final = 140_000
FILE_NAME: Final = re.compile(r"(\d{4})_(\w+)\.sql")
COMMENT: Final = re.compile(r"^\s*--.*\n", re.MULTILINE)
#: Up to a semicolon, unless it stands in a body between `$$` and `$$`.
STATEMENT: Final = re.compile(r"((?:\$\$.*?\$\$|[^;])+);", re.DOTALL)
PLAIN: Final = re.compile(r"[A-Za-z0-9_ -]+")

INSERT_TRIGGER: Final = "insert_trigger"
ELIXIR: Final = "elixir"
UNINSTALL: Final = "uninstall"
DROP_SCHEMA: Final = "drop_schema"


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    transactional: bool
    #: As they stand in the file, before a schema is filled in.
    templates: tuple[str, ...]

    @property
    def label(self) -> str:
        return f"{self.version:04}_{self.name}"

    def statements(self, prefix: str) -> list[str]:
        return [render(template, prefix) for template in self.templates]

    def record(self, prefix: str) -> str:
        """The statement that says that this migration is done."""
        return (
            f"insert into {identifier(prefix)}.oban_migrations (version, name)\n"
            f"values ({self.version}, '{self.name}')\non conflict (version) do nothing"
        )


@cache
def migrations() -> tuple[Migration, ...]:
    """All of them, in order."""
    folder = resources.files("oban.engines.postgres") / "migrations"
    found = []
    for file in folder.iterdir():
        if match := FILE_NAME.fullmatch(file.name):
            text = file.read_text("utf-8")
            transactional = "\n-- transaction: yes\n" in text
            if not transactional and "\n-- transaction: no\n" not in text:
                raise AssertionError(f"{file.name} does not say whether it runs in a transaction")
            found.append(Migration(int(match[1]), match[2], transactional, split(text)))
    return tuple(sorted(found, key=lambda migration: migration.version))


def latest_version() -> int:
    return migrations()[-1].version


def pending(version: int) -> list[Migration]:
    """The migrations that a schema at `version` lacks."""
    return [migration for migration in migrations() if migration.version > version]


def install_statements(prefix: str, extras: Sequence[str] = ()) -> list[str]:
    return migrate_statements(0, latest_version(), prefix) + [
        at_once(statement) for name in extras for statement in optional(name, prefix)
    ]


def migrate_statements(from_version: int, to_version: int, prefix: str) -> list[str]:
    """What leads from one version to a later one, with indexes built while writers wait."""
    latest = latest_version()
    if not 0 <= from_version <= to_version <= latest:
        raise SchemaError(
            f"there is no way from version {from_version} to {to_version}; versions go up, "
            f"from 0, which is an empty schema, to {latest}"
        )
    return [
        at_once(statement)
        for migration in pending(from_version)
        if migration.version <= to_version
        for statement in (*migration.statements(prefix), migration.record(prefix))
    ]


def uninstall_statements(prefix: str) -> list[str]:
    statements = optional(UNINSTALL, prefix)
    return statements if prefix == "public" else statements + optional(DROP_SCHEMA, prefix)


def at_once(statement: str) -> str:
    return statement.replace(" concurrently ", " ", 1)


def script(statements: list[str]) -> str:
    return "".join(f"{statement};\n\n" for statement in statements)


def optional(name: str, prefix: str) -> list[str]:
    """The statements of a file that is no numbered migration."""
    file = resources.files("oban.engines.postgres") / "migrations" / f"{name}.sql"
    return [render(template, prefix) for template in split(file.read_text("utf-8"))]


def split(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in STATEMENT.findall(COMMENT.sub("", text)))


def render(template: str, prefix: str) -> str:
    return template.replace("{prefix}", identifier(prefix)).replace("{prefix_text}", text(prefix))


def identifier(name: str) -> str:
    """Quote a name so that it also passes through what carries our scripts.

    SQLAlchemy looks for colons, drivers look for percent signs, and the bodies of functions end at
    dollar signs: where a name has such characters they are written as Unicode escapes.
    """
    return quoted(name) if PLAIN.fullmatch(name) else f'U&"{escaped(name)}"'


def text(value: str) -> str:
    return f"'{value}'" if PLAIN.fullmatch(value) else f"U&'{escaped(value)}'"


def escaped(value: str) -> str:
    return "".join(
        character if character.isalnum() else f"\\+{ord(character):06X}" for character in value
    )


@dataclass(frozen=True, slots=True)
class ServerFacts:
    server_version: int
    server_version_text: str
    database: str
    jobs_exist: bool
    is_replica: bool
    schema_version: int


@dataclass(frozen=True, slots=True)
class SchemaObjects:
    """What stands in a schema beside the numbered migrations."""

    made_here: bool
    peers_exist: bool
    trigger_exists: bool
    published_index_exists: bool
    comment: str | None

    def has(self, extra: str) -> bool:
        """Whether one of the optional files need not be applied."""
        if extra == INSERT_TRIGGER:
            return self.trigger_exists
        assert extra == ELIXIR
        marked = (self.comment or "").isdecimal()
        return self.peers_exist and self.published_index_exists and marked


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
        if migrations_exist and jobs_exist:
            (row,) = yield statements("schema_version")
            installed = row[0]
        return ServerFacts(version, text, database, jobs_exist, is_replica, installed)

    return PostgresOperation("server_facts", steps, repeatable=True)


def schema_objects(statements: Statements) -> PostgresOperation[SchemaObjects]:
    schema = quoted(statements.prefix)

    def steps() -> Steps[SchemaObjects]:
        (row,) = yield statements(
            "schema_objects", jobs_table=f"{schema}.oban_jobs", peers_table=f"{schema}.oban_peers"
        )
        return SchemaObjects(*row)

    return PostgresOperation("schema_objects", steps, repeatable=True)


def problem(facts: ServerFacts, prefix: str) -> str | None:
    """Why a node cannot work there, and which command helps; None when it can."""
    option = "" if prefix == "public" else f" --prefix {shlex.quote(prefix)}"
    place = f"database {facts.database!r}, schema {prefix!r}"
    if facts.server_version < OLDEST_SERVER:
        return f"the server is PostgreSQL {facts.server_version_text}; 14 or later is needed"
    if not facts.jobs_exist:
        return f"there are no Oban tables in {place}; run `oban install{option}`"
    if facts.schema_version < latest_version():
        return (
            f"the Oban tables in {place} are at version {facts.schema_version}, this package "
            f"needs {latest_version()}; run `oban migrate{option}`"
        )
    return None


def require_usable(facts: ServerFacts, prefix: str) -> None:
    """Raise SchemaError unless a node can work there."""
    if trouble := problem(facts, prefix):
        raise SchemaError(trouble)
