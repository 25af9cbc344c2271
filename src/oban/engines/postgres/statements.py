"""Statements as values: named SQL, its parameters, and the operations made of them.

A `.sql` file holds blocks that begin with `-- name: …`, and parts that several of its blocks have
in common, which begin with `-- part: …` and stand before them. A part may leave a word open: that
of `-- part: ended(state)` stands in it as `{state}`, and is given where the part is put in, as
`{ended(completed)}`. Parameters are written `:name` and always bound; `{prefix}`, the parts and the
column lists of `rows` are the only text put in. One block serves every kind of connection: psycopg
takes it with `$1`, SQLAlchemy with `:name`. Every block returns rows.
"""

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Final, TypeVar

from psycopg import sql

from oban.engines.operation import Operation
from oban.engines.postgres.rows import COLUMN_LISTS

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Row = Sequence[Any]
Rows = Sequence[Row]
Steps = Generator["Statement", Rows, T]

FILES: Final = (
    "jobs",
    "runs",
    "limits",
    "nodes",
    "commands",
    "rescue",
    "cron",
    "history",
    "metrics",
    "reads",
    "browse",
    "stacks",
    "explain",
    "schema",
)
PARAMETER: Final = re.compile(r"(?<![:\w]):([a-z_]+)")
BLOCK: Final = re.compile(r"^-- (name|part): (\w+)(?:\((\w+)\))?$", re.MULTILINE)
PUT_IN: Final = re.compile(r"\{(\w+)(?:\((\w+)\))?\}")
COMMENT: Final = re.compile(r"^\s*--.*$", re.MULTILINE)
#: Statements that are sent often enough for a driver to prepare them, so that their plan is kept.
#: The others are planned for the table as it is when they are sent.
PREPARED: Final = frozenset(
    {"insert_job", "insert_jobs", "insert_unique_jobs", "turn", "limited_turn"}
)


@dataclass(frozen=True, slots=True)
class Sql:
    """One block in the two spellings that connections need."""

    name: str
    numbered: str
    named: str
    parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    sql: Sql
    parameters: Mapping[str, Any]

    @property
    def values(self) -> tuple[Any, ...]:
        """The parameters in the order of `sql.numbered`."""
        return tuple(self.parameters[name] for name in self.sql.parameters)

    @property
    def prepare(self) -> bool | None:
        """What psycopg asks: False never prepares, None does so once it pays."""
        return None if self.sql.name in PREPARED else False


@dataclass(frozen=True, slots=True)
class PostgresOperation(Operation[T_co]):
    """Statements sent one after the other, each able to depend on the rows before it.

    `steps` begins anew each time it is called, so an operation can be tried again. An operation
    of several statements is one transaction; `repeatable` says that doing it twice is doing it
    once, so that a lost connection needs no `OutcomeUnknown`.
    """

    name: str
    steps: Callable[[], Steps[T_co]]
    transactional: bool = False
    repeatable: bool = False
    #: Names the unique keys that it may have to wait for, for who has waited in vain.
    unique_keys: Callable[[], str] | None = None
    #: Whether the server ends what takes too long: then trying again would take as long.
    is_timed: bool = False


class Statements:
    """The named blocks, written for one schema."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.blocks = blocks_of(prefix)

    def __call__(self, name: str, /, **parameters: Any) -> Statement:
        return Statement(self.blocks[name], parameters)


@lru_cache(maxsize=16)  # reading them takes longer than a connection does
def blocks_of(prefix: str) -> Mapping[str, Sql]:
    return {block.name: block for file in FILES for block in read_blocks(file, prefix)}


def read_blocks(file: str, prefix: str) -> list[Sql]:
    text = (resources.files("oban.engines.postgres") / "sql" / f"{file}.sql").read_text("utf-8")
    _, *found = BLOCK.split(text)
    parts = {name: (None, columns) for name, columns in COLUMN_LISTS.items()}
    blocks = []
    for kind, name, word, body in zip(*(found[at::4] for at in range(4)), strict=True):
        plain = filled(" ".join(COMMENT.sub("", body).split()), parts)
        if kind == "part":
            parts[name] = word, plain
        else:
            blocks.append(write(name, plain, prefix))
    return blocks


def filled(text: str, parts: Mapping[str, tuple[str | None, str]]) -> str:
    """Put parts in, those that leave a word open with the one that is given."""

    def put_in(found: re.Match[str]) -> str:
        if found[1] not in parts:
            return found[0]  # the schema, or the word that this part leaves open
        word, part = parts[found[1]]
        return part if word is None else part.replace("{" + word + "}", found[2])

    return PUT_IN.sub(put_in, text)


def write(name: str, plain: str, prefix: str) -> Sql:
    parameters = tuple(dict.fromkeys(PARAMETER.findall(plain)))
    numbered = PARAMETER.sub(lambda found: f"${parameters.index(found[1]) + 1}", plain)
    schema = quoted(prefix)
    return Sql(
        name=name,
        numbered=numbered.replace("{prefix}", schema),
        # SQLAlchemy reads a colon as a parameter wherever it stands, unless it is escaped.
        named=plain.replace("{prefix}", schema.replace(":", "\\:")),
        parameters=parameters,
    )


def quoted(identifier: str) -> str:
    return sql.Identifier(identifier).as_string(None)
