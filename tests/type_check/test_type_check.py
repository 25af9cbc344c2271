"""Strict mypy on a sample application: what is right is accepted, what is wrong is caught."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
MARK = re.compile(r"  # type: ignore\[(.+)\]$")


#: Kept from one run of the tests to the next: most of what is read are other people's packages.
CACHE = ROOT / ".mypy_cache" / "type_check"


@pytest.fixture(scope="module")
def marked() -> dict[int, set[str]]:
    """The lines of the mistakes, and the codes of what is wrong there."""
    lines = (HERE / "mistakes.py").read_text().splitlines()
    found = {number: MARK.search(line) for number, line in enumerate(lines, 1)}
    return {number: set(mark[1].split(", ")) for number, mark in found.items() if mark}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What mypy says, by line, of both files at once, where no mistake is marked as one."""
    bare = tmp_path_factory.mktemp("type_check") / "mistakes.py"
    lines = (HERE / "mistakes.py").read_text().splitlines()
    bare.write_text("\n".join(MARK.sub("", line) for line in lines))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(CACHE)),
            "--follow-imports=silent",  # Oban's own files are checked elsewhere
            *("--no-pretty", "--no-error-summary", "--show-absolute-path"),
            *(str(HERE / "application.py"), str(bare)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr  # there are mistakes
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_mypy_accepts_what_is_right(said: list[str]) -> None:
    assert [line for line in said if "/mistakes.py:" not in line] == []


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_mypy_catches_every_mistake_and_nothing_else(
    said: list[str], marked: dict[int, set[str]]
) -> None:
    caught: dict[int, set[str]] = {}
    for line in said:
        if found := re.search(r"/mistakes\.py:(\d+): error: .*\[(.+)\]", line):
            caught.setdefault(int(found[1]), set()).add(found[2])
    assert caught == marked
