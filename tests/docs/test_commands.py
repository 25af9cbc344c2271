"""Command lines on the pages are accepted by the command, and its options are all documented."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from tests.docs.pages import NAMES, ROOT, blocks

from oban.cli.program import app

SHARED = {"--config", "--dsn", "--embedded", "--prefix"}
ELSEWHERE = {"--help", "--version", "--install-completion", "--show-completion"}
OBAN: Any = typer.main.get_command(app)


def command_lines() -> Iterator[tuple[str, str]]:
    """Each `oban …` in a block of bash, and where it stands."""
    for page in NAMES:
        for block in blocks(page):
            if block.language in ("bash", "console"):
                for offset, line in enumerate(block.code.splitlines()):
                    words = re.sub(r"^(?:\$ |(?:[A-Z_]+=\S+ )+)", "", line.strip())
                    if words.startswith("oban "):
                        yield f"{page}:{block.line + offset}", words


LINES = list(command_lines())


@pytest.mark.parametrize("line", [line for _, line in LINES], ids=[place for place, _ in LINES])
def test_a_command_line_is_accepted(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command, context = OBAN, None
    while True:
        context = command.make_context("oban", words, parent=context)
        if not hasattr(command, "commands"):
            break
        _, command, words = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )


def test_there_are_command_lines_to_check() -> None:
    assert len(LINES) > 20


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
    else:
        for word, each in inner.items():
            yield from commands(each, f"{name} {word}")


@pytest.mark.parametrize(("name", "command"), list(commands(OBAN, "oban")))
def test_the_section_of_a_command_has_its_options(name: str, command: Any) -> None:
    options = {
        option
        for parameter in command.params
        if not parameter.hidden and parameter.param_type_name == "option"
        for option in parameter.opts
        if option.startswith("--")
    }
    assert documented(name) == options - SHARED - ELSEWHERE


def test_the_shared_options_are_shared() -> None:
    assert documented("Shared options") == SHARED
    for name, command in commands(OBAN, "oban"):
        own = {option for parameter in command.params for option in parameter.opts}
        assert own >= SHARED or name == "oban version"


def documented(heading: str) -> set[str]:
    """The options in the first column of the table under a heading."""
    text = (ROOT / "docs/command-line.md").read_text("utf-8")
    (section,) = re.findall(rf"^#+ {heading}$(.*?)(?=^#+ |\Z)", text, re.DOTALL | re.MULTILINE)
    cells = re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)
    return {option for cell in cells for option in re.findall(r"`(--[\w-]+)`", cell)}
