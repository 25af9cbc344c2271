"""The benchmarks' commands answer a mistake with a sentence."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


#: Runs commands as `python -m` does, one after the other: to import them takes far longer.
PROGRAM = """
import contextlib, io, json, runpy, sys, traceback

for line in sys.stdin:
    module, *sys.argv[1:] = json.loads(line)
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
    print(json.dumps([code, stdout.getvalue(), stderr.getvalue()]), flush=True)
"""


@dataclass
class Said:
    returncode: int
    stdout: str
    stderr: str


Answer = Callable[..., Said]


@pytest.fixture(scope="module")
def answer() -> Iterator[Answer]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def answer(*command: str) -> Said:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()
            return Said(*json.loads(process.stdout.readline()))

        yield answer
        process.kill()


def test_a_report_on_a_file_that_is_not_there_says_so(answer: Answer) -> None:
    said = answer("benchmarks", "--report", "missing.jsonl")
    assert said.returncode == 1
    assert "missing.jsonl cannot be read: No such file" in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize("text", ["no json\n", '{"of": "something else"}\n', "[]\n"])
def test_a_report_on_a_file_of_something_else_says_so(
    answer: Answer, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(text)
    said = answer("benchmarks", "--report", str(path))
    assert said.returncode == 1
    assert "is no file of results" in said.stderr
    assert "Traceback" not in said.stderr


def test_a_run_does_not_mix_with_another_in_one_file(answer: Answer, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("of a run before\n")
    said = answer("benchmarks", "--only", "bulk", "--systems", "bare_sql", "--output", str(path))
    assert said.returncode == 1
    assert "is there already" in said.stderr
    assert path.read_text() == "of a run before\n"


@pytest.mark.parametrize("command", ["benchmarks", "benchmarks.rescue"])
def test_help_is_given(answer: Answer, command: str) -> None:
    said = answer(command, "--help")
    assert said.returncode == 0
    assert said.stdout.startswith(f"usage: python -m {command}")


def test_what_is_no_number_of_rounds_is_refused(answer: Answer) -> None:
    said = answer("benchmarks.rescue", "many")
    assert said.returncode == 2
    assert "invalid int value: 'many'" in said.stderr
