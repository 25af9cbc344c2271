"""Rules for every `.sql` file, so that each statement passes every driver and can be understood."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import oban.engines.postgres
from oban import schema
from oban.engines.postgres.statements import BLOCK, FILES, PARAMETER, Statements

ROOT: Final = Path(oban.engines.postgres.__file__).parent
SQL: Final = sorted((ROOT / "sql").glob("*.sql"))
MIGRATIONS: Final = sorted((ROOT / "migrations").glob("*.sql"))

TEXT: Final = re.compile(r"'(?:[^']|'')*'")
#: Where a star does not stand for columns that somebody may add: a count, a product, the columns
#: that the statement named itself for an input list, and rows written that are read by name after.
STARS: Final = (
    r"count\(\*\)",
    r"(?<=[\w)] )\* (?:interval|cast\()",
    r"select \* from json_to_recordset",
    r"\b(?:ack|ordered)\.\*",
    r"returning job\.\*",
)
#: What a method that sends a named block adds to the parameters it is called with.
ADDED: Final = {"change": {"ids"}}


def blocks(path: Path) -> Iterator[tuple[str, str, str]]:
    """The name, the comment and the statement of each block, and of each part of several."""
    _, *found = BLOCK.split(path.read_text("utf-8"))
    for name, body in zip(found[1::4], found[3::4], strict=True):
        lines = body.strip().splitlines()
        comment = [line for line in lines if line.startswith("--")]
        yield name, "\n".join(comment), "\n".join(lines[len(comment) :])


BLOCKS: Final = [
    pytest.param(comment, statement, id=f"{path.stem}-{name}")
    for path in SQL
    for name, comment, statement in blocks(path)
]
PARTS: Final = [
    name
    for path in SQL
    for kind, name, _ in BLOCK.findall(path.read_text("utf-8"))
    if kind == "part"
]
named_blocks = pytest.mark.parametrize(("comment", "statement"), BLOCKS)


def test_every_file_is_read_and_no_name_is_given_twice() -> None:
    assert {path.stem for path in SQL} == set(FILES)
    assert len(BLOCKS) == len(Statements("public").blocks) + len(PARTS)


@named_blocks
def test_a_block_begins_by_saying_what_it_promises(comment: str, statement: str) -> None:
    assert comment, "a comment between the name and the statement"
    assert "--" not in statement, "comments stand before the statement: its lines become one"


@named_blocks
def test_every_driver_takes_the_statement(comment: str, statement: str) -> None:
    assert ":" not in PARAMETER.sub("", statement), "cast(… as type), and no colon but parameters'"
    assert "%" not in statement, "psycopg2 and psycopg read a percent sign as a parameter"
    assert "?" not in TEXT.sub("", statement), "some drivers read a question mark as a parameter"
    assert ";" not in TEXT.sub("", statement), "asyncpg prepares one statement at a time"
    assert "$" not in statement, "parameters are named"


@named_blocks
def test_columns_are_named(comment: str, statement: str) -> None:
    one_line = " ".join(statement.split())
    assert "*" not in re.sub("|".join(STARS), "", one_line)


def test_all_that_is_to_be_put_in_is_known() -> None:
    for block in Statements("public").blocks.values():
        assert "{" not in TEXT.sub("", block.numbered), block.name


@named_blocks
def test_tables_are_looked_for_in_the_schema(comment: str, statement: str) -> None:
    for word in re.findall(r"(?<![\w.])oban_\w+", TEXT.sub("", statement)):
        pytest.fail(f"{word} is not looked for in {{prefix}}")


@named_blocks
def test_the_type_of_a_parameter_does_not_depend_on_the_driver(
    comment: str, statement: str
) -> None:
    """Bound bare, it would be text for one driver and unknown for another."""
    bare = re.sub(r"cast\(:\w+ as ", "", statement)
    takers = r"(?:pg_notify|pg_get_serial_sequence|to_regclass|hashtextextended)\($"
    for found in PARAMETER.finditer(bare):
        before = bare[: found.start()].rstrip()
        assert re.search(takers, before), (
            f":{found[1]} is neither cast nor given to a text function"
        )


def test_every_block_is_sent_by_somebody_with_the_parameters_it_has() -> None:
    known = Statements("public").blocks
    sent: set[str] = set()
    for path in ROOT.glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            match call:
                case ast.Call(
                    func=ast.Name(callee) | ast.Attribute(attr=callee),
                    args=[ast.Constant(str(name)), *_],
                ) if name in known and callee != "PostgresOperation":
                    given = {each.arg for each in call.keywords} | ADDED.get(callee, set())
                    wanted = set(known[name].parameters)
                    if None in given:  # `**` gives the rest, which sending it proves
                        given.remove(None)
                        wanted &= given
                    assert given == wanted, f"{name} in {path.name}"
                    sent.add(name)
    assert sent == set(known)


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.stem)
def test_a_migration_says_why_it_is_there(path: Path) -> None:
    assert path.read_text("utf-8").startswith("-- ")


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.stem)
def test_a_migration_passes_through_alembic_and_django(path: Path) -> None:
    """The one looks for colons, the other for percent signs."""
    statements = "\n".join(
        line for line in path.read_text("utf-8").splitlines() if not line.lstrip().startswith("--")
    )
    assert "::" not in statements
    assert "%" not in statements
    assert not re.search(r":(?!=)", statements), "a colon only before an equals sign"


def test_a_script_passes_through_alembic_and_django_whatever_the_schema_is_called() -> None:
    script = schema.install_sql('a "b":c %d', insert_trigger=True, elixir=True)
    assert not re.search(r":(?!=)|%", script)
