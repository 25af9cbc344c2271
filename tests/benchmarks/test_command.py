"""The benchmarks' commands answer a mistake with a sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def answer(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_report_on_a_file_that_is_not_there_says_so() -> None:
    said = answer("benchmarks", "--report", "missing.jsonl")
    assert said.returncode == 1
    assert "missing.jsonl cannot be read: No such file" in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize("text", ["no json\n", '{"of": "something else"}\n', "[]\n"])
def test_a_report_on_a_file_of_something_else_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(text)
    said = answer("benchmarks", "--report", str(path))
    assert said.returncode == 1
    assert "is no file of results" in said.stderr
    assert "Traceback" not in said.stderr


def test_a_run_does_not_mix_with_another_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("of a run before\n")
    said = answer("benchmarks", "--only", "bulk", "--systems", "bare_sql", "--output", str(path))
    assert said.returncode == 1
    assert "is there already" in said.stderr
    assert path.read_text() == "of a run before\n"


@pytest.mark.parametrize("command", ["benchmarks", "benchmarks.rescue"])
def test_help_is_given(command: str) -> None:
    said = answer(command, "--help")
    assert said.returncode == 0
    assert said.stdout.startswith(f"usage: python -m {command}")


def test_what_is_no_number_of_rounds_is_refused() -> None:
    said = answer("benchmarks.rescue", "many")
    assert said.returncode == 2
    assert "invalid int value: 'many'" in said.stderr
