"""The harness for child processes, proved on small scripts."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults import processes
from tests.faults.processes import OBAN, PYTHON, Process, ProcessEnded

Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Make a process of a script's text."""

    def make(script: str, *arguments: str, **options: object) -> Process:
        file = tmp_path / "script.py"
        file.write_text(script)
        return Process(PYTHON, file, *arguments, log=tmp_path / "log", **options)  # type: ignore[arg-type]

    return make


def alive(pid: int) -> bool:
    """Whether it runs; a zombie that nobody collects does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc").is_dir()


SLEEPER = "import time; print('up'); time.sleep(50)"

STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: print("not yet"))
print("up")
while True:
    time.sleep(0.01)
"""

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(50)"])
print("child", child.pid)
if sys.argv[1] == "stay":
    time.sleep(50)
"""

COUNTER = """
import time
for number in range(100000):
    print("tick", number)
    time.sleep(0.01)
"""


async def test_output_of_both_streams_is_a_line_at_hand_and_a_file(
    start: Start, tmp_path: Path
) -> None:
    script = (
        "import os, sys; print('out', sys.argv[1], os.environ['MOOD']); sys.exit('err \\u00fc')"
    )
    async with start(script, "one", env={"MOOD": "good", "PYTHONIOENCODING": "utf-8"}) as process:
        match = await process.line(r"^out (\w+) (\w+)$")
        assert match.groups() == ("one", "good")
        await process.line("^err ü$")
        assert await process.exited() == 1
    assert process.returncode == 1
    assert process.output == "out one good\nerr ü"
    assert (tmp_path / "log").read_text() == "out one good\nerr ü\n"


async def test_a_line_is_counted_from_the_start(start: Start) -> None:
    async with start(COUNTER) as process:
        later, sooner = await asyncio.gather(
            process.line(r"tick (\d+)", count=5), process.line(r"tick (\d+)")
        )
        assert (later[1], sooner[1]) == ("4", "0")
        assert (await process.line(r"tick (\d+)"))[1] == "0"


async def test_a_line_without_its_end_counts_when_the_process_ended(start: Start) -> None:
    async with start("print('half a line', end='')") as process:
        assert await process.line("half a line$")


async def test_a_line_that_never_comes_is_an_error_with_the_output(start: Start) -> None:
    async with start(SLEEPER) as process:
        await process.line("up")
        with pytest.raises(TimeoutError, match=r"did not print 'down' in 0.05 s(.|\n)*\nup$"):
            await process.line("down", timeout=0.05)


async def test_a_line_is_not_waited_for_after_the_end(start: Start) -> None:
    async with start("print('bye'); raise SystemExit(3)") as process:
        with pytest.raises(ProcessEnded, match=r"exit code 3(.|\n)*\nbye$"):
            await process.line("never", timeout=30)
        with pytest.raises(ProcessEnded):
            await process.line("bye", count=2, timeout=30)


async def test_a_process_that_stays_is_an_error(start: Start) -> None:
    async with start(STUBBORN) as process:
        await process.line("up")
        process.terminate()
        await process.line("not yet")
        with pytest.raises(TimeoutError, match=r"did not exit in 0.05 s"):
            await process.exited(timeout=0.05)
        assert process.returncode is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_the_exit_code_names_the_signal(start: Start, number: signal.Signals) -> None:
    async with start(SLEEPER) as process:
        await process.line("up")
        process.terminate() if number == signal.SIGTERM else process.kill()
        assert await process.exited() == -number


async def test_stopped_it_is_silent_until_resumed(start: Start) -> None:
    async with start(COUNTER) as process:
        await process.line("tick")
        process.stop()
        await asyncio.sleep(0.1)  # what was in the pipe
        before = process.output
        await asyncio.sleep(0.2)
        assert process.output == before
        process.resume()
        await process.line("tick", count=before.count("tick") + 1)


@pytest.mark.parametrize("script", [STUBBORN, SLEEPER])
async def test_leaving_kills_it_stopped_or_not(start: Start, script: str) -> None:
    async with start(script) as process:
        await process.line("up")
        process.stop()
    assert process.returncode == -signal.SIGKILL
    assert not alive(process.pid)


@pytest.mark.parametrize("manner", ["stay", "leave"])
async def test_leaving_kills_its_children_also_those_it_left(start: Start, manner: str) -> None:
    async with start(PARENT, manner) as process:
        child = int((await process.line(r"child (\d+)"))[1])
        if manner == "leave":
            assert await process.exited() == 0
        assert alive(child)
    async with asyncio.timeout(5):
        while alive(child):
            await asyncio.sleep(0.01)


async def test_leaving_by_an_error_leaves_nothing_either(start: Start) -> None:
    before = asyncio.all_tasks()
    with pytest.raises(LookupError):
        async with start(SLEEPER) as process:
            await process.line("up")
            raise LookupError
    assert not alive(process.pid)
    assert asyncio.all_tasks() == before


async def test_the_command_line_is_at_hand(tmp_path: Path) -> None:
    async with Process(OBAN, "version", log=tmp_path / "log") as process:
        await process.line(r"^oban \d")
        assert await process.exited() == 0


async def test_a_command_that_does_not_exist_is_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        async with Process(tmp_path / "absent", log=tmp_path / "log"):
            pass


async def test_one_that_prints_without_end_is_killed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "MAX_OUTPUT", 100_000)
    async with start("while True: print('y' * 1000)") as process:
        assert await process.exited() == -signal.SIGKILL
        await process.line(r"killed: it printed more than 100000 bytes")
