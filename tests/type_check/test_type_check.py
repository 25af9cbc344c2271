"""Strict mypy on a sample application: what is right is accepted, what is wrong is caught."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
MARK = re.compile(r"  # type: ignore\[(.+)\]$")


def mypy(cache: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache)),
            "--follow-imports=silent",  # Oban's own files are checked elsewhere
            *map(str, files),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_mypy_accepts_what_is_right(cache: Path) -> None:
    done = mypy(cache, HERE / "application.py")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_mypy_catches_every_mistake_and_nothing_else(cache: Path, tmp_path: Path) -> None:
    lines = (HERE / "mistakes.py").read_text().splitlines()
    bare = tmp_path / "mistakes.py"
    bare.write_text("\n".join(MARK.sub("", line) for line in lines))
    marked = {
        number: found[1] for number, line in enumerate(lines, 1) if (found := MARK.search(line))
    }
    caught: dict[int, set[str]] = {}
    for number, code in re.findall(
        r"mistakes\.py:(\d+): error: .*\[(.+)\]", mypy(cache, bare).stdout
    ):
        caught.setdefault(int(number), set()).add(code)
    assert caught == {number: set(codes.split(", ")) for number, codes in marked.items()}
