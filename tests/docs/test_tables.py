"""What the tables of options say is what the code has: names, defaults and what is accepted."""

import re
from collections.abc import Iterator, Sequence
from typing import get_args

import pytest
from tests.docs.pages import NAMES, ROOT

from oban import Job, settings
from oban.explanation import Code
from oban.options import (
    LifelineOptions,
    MetricsOptions,
    Options,
    PoolOptions,
    PrunerOptions,
    QueueOptions,
    RefresherOptions,
    SchedulerOptions,
    StagerOptions,
)
from oban.part import Part, Rule, rules
from oban.unique import GROUPS, UniqueOptions
from oban.worker.options import OPTION_NAMES

Row = Sequence[str]

PARTS = {
    part.__name__: part
    for part in (
        LifelineOptions,
        MetricsOptions,
        PrunerOptions,
        QueueOptions,
        RefresherOptions,
        SchedulerOptions,
        StagerOptions,
    )
}
CONFIGURATION = "docs/configuration.md"


def table(page: str, marker: str) -> list[Row]:
    """The rows below `<!-- marker -->`, without their heads, each a list of cells."""
    text = (ROOT / page).read_text("utf-8")
    (found,) = re.findall(rf"<!-- {re.escape(marker)} -->\n\n((?:\|[^\n]*\n)+)", text)
    rows: list[Row] = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in found.splitlines()
    ]
    return rows[2:]


def code(text: str) -> str:
    return f"`{text}`"


def default(value: object) -> str:
    """A default as a table shows it: in the words of the configuration."""
    match value:
        case None | ():
            return "none"
        case Part():
            return "a table"
        case bool():
            return code(str(value).lower())
        case _:
            return code(str(value))


def accepted(rule: Rule) -> str:
    if rule.range is not None or rule.kind is bool:
        return str(rule).partition(":")[0]
    return "a list" if "tuple" in str(rule.kind) else "a table"


def test_every_cause_is_told_of_once() -> None:
    page = "docs/explain.md"
    markers = re.findall(r"<!-- (causes: \w+) -->", (ROOT / page).read_text("utf-8"))
    told = [row[0] for marker in markers for row in table(page, marker)]
    assert told == [code(each) for each in get_args(Code)]


def documented_parts() -> Iterator[tuple[str, str]]:
    for page in NAMES:
        for marker in re.findall(r"<!-- options: (\w+) -->", (ROOT / page).read_text("utf-8")):
            yield page, marker


def test_every_part_of_an_oban_has_a_table() -> None:
    assert sorted(name for _, name in documented_parts()) == sorted(PARTS)


@pytest.mark.parametrize(("page", "name"), list(documented_parts()))
def test_a_part_has_the_options_that_its_table_says(page: str, name: str) -> None:
    part = PARTS[name]
    values = part()
    assert [tuple(row[:3]) for row in table(page, f"options: {name}")] == [
        (code(key), default(getattr(values, key)), accepted(rule))
        for key, rule in rules(part).items()
    ]


def test_the_configuration_has_the_keys_that_its_table_says() -> None:
    values = {
        part.path + key: getattr(part(), key)
        for part in (settings.ProgramOptions, Options, PoolOptions)
        for key in rules(part)
    }
    variables = {key: code(name) for name, key in settings.VARIABLES.items()}
    expected = {
        (code(key), variables.get(key, ""), default(values[key]), accepted(rule))
        for key, rule in settings.RULES.items()
        if key != "node"
    }
    rows = [tuple(row[:4]) for row in table(CONFIGURATION, "settings")]
    assert len(set(rows)) == len(rows)
    node = ("`node`", "`OBAN_NODE`", "the host's name", "text of 1 to 255 bytes")
    assert set(rows) == {*expected, node}


def test_the_page_names_every_option_of_later_versions() -> None:
    text = (ROOT / CONFIGURATION).read_text("utf-8")
    for part in (Options, QueueOptions):
        assert part.later
        for name in part.later:
            assert code(name) in text, f"{part.__name__}.{name}"


def test_a_job_has_the_options_that_their_table_says() -> None:
    rows = table("docs/writing-jobs.md", "table: job options")
    assert [row[0] for row in rows] == [code(name) for name in OPTION_NAMES]
    job = Job(worker="app.Worker")
    said = {row[0].strip("`"): row[1].strip("`") for row in rows}
    assert {name: said[name] for name in ("queue", "priority", "max_attempts", "meta")} == {
        name: str(getattr(job, name)) for name in ("queue", "priority", "max_attempts", "meta")
    }


def test_what_unique_takes_is_in_its_tables() -> None:
    rows = table("docs/unique-jobs.md", "table: unique options")
    assert [row[0] for row in rows] == [code(name) for name in UniqueOptions.__annotations__]
    groups = table("docs/unique-jobs.md", "table: unique groups")
    assert {row[0] for row in groups} == {code(name) for name in GROUPS}
