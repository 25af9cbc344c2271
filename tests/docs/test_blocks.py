"""Every block of Python on every page runs, as it is written, against a real database."""

import ast
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.docs.module import PageModule
from tests.docs.pages import NAMES, Block, blocks

from oban import configuration, instances

PYTHON = {name: [each for each in blocks(name) if each.language == "python"] for name in NAMES}

#: Pages that install the tables themselves.
INSTALLING = {"README.md", "docs/quickstart.md", "docs/installation.md"}

#: How many blocks of a page cannot be run; each gives its reason in the page.
NOT_RUN = {
    "docs/installation.md": 1,
}


def over_its_road(page: str) -> Any:
    why = "the page counts the connections"
    return pytest.param(
        page, marks=[pytest.mark.hears(why)] if page == "docs/production.md" else []
    )


@pytest.mark.parametrize("page", [over_its_road(name) for name, found in PYTHON.items() if found])
async def test_the_blocks_of_the_page_run_in_order(
    page: str, request: pytest.FixtureRequest
) -> None:
    fixture = "place" if page in INSTALLING else "installed_place"
    folder: Path = request.getfixturevalue(fixture)
    module = PageModule(f"page_{Path(page).stem.replace('-', '_').lower()}", folder)
    try:
        for block in PYTHON[page]:
            if block.reason is None:
                await module.run(block)
    finally:
        for instance in [each for living in instances.INSTANCES.values() for each in living]:
            await instance.stop()  # type: ignore[attr-defined]  # each of them is an Oban
        module.forget()


def test_the_blocks_that_are_not_run_are_counted_and_are_python() -> None:
    not_run: list[Block] = [
        each for found in PYTHON.values() for each in found if each.reason is not None
    ]
    assert Counter(each.page for each in not_run) == NOT_RUN
    for block in not_run:
        compile(block.padded, block.page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", NAMES)
def test_a_configuration_loads(page: str, tmp_path: Path) -> None:
    for number, block in enumerate(each for each in blocks(page) if each.language == "toml"):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / (block.title or "oban.toml")).write_text(block.code, "utf-8")
        loaded = configuration.load(environ={}, cwd=folder)
        assert loaded.sources, block.place
        assert not loaded.notices, block.place


@pytest.mark.parametrize("code", ["assert seen == 1", "await sleep(0)\nassert seen == 1"])
async def test_a_block_that_fails_fails_where_it_stands(code: str, place: Path) -> None:
    module = PageModule("page_of_this_test", place)
    try:
        await module.run(Block("a page", 1, "python", "from asyncio import sleep\nseen = 2"))
        with pytest.raises(AssertionError) as failure:
            await module.run(Block("a page", 40, "python", code))
        assert str(failure.traceback[-1].path) == "a page"
        assert failure.traceback[-1].lineno == 38 + len(code.splitlines())
    finally:
        module.forget()
