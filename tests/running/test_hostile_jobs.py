"""What a job in a child process does to its process, to its node and to those beside it."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.faults.processes import PYTHON, Process
from tests.running import slow_to_import
from tests.running.hostile import Hostile
from tests.running.support import Running, eventually, reached
from tests.running.test_processes import ended, error, gone, lives, pid_in

from oban import Job, Oban
from oban.testing import process_job

ONE = {"queues": {"hostile": 1}, "process_pool_size": 1}
Did = Callable[..., Awaitable[Job]]


async def run(oban: Oban, do: str, **args: Any) -> Job:
    (job,) = await ended(oban, await oban.enqueue(Hostile.new({"do": do, **args})))
    return job


async def is_unharmed(oban: Oban) -> int:
    """The next job has its own outcome; return the process it ran in."""
    after = await run(oban, "nothing")
    assert (after.state, after.errors) == ("completed", [])
    pid = after.recorded()
    assert isinstance(pid, int)
    return pid


@pytest.mark.parametrize("do", ["fork and return", "fork and exit"])
async def test_a_copy_of_a_child_says_nothing_in_its_name(running: Running, do: str) -> None:
    async with running(**ONE) as oban:
        job = await run(oban, do)
        first = await is_unharmed(oban)
        assert await is_unharmed(oban) == first
    assert job.state == "completed"
    assert job.recorded() in (["forked", False], "the original")


async def test_a_copy_that_lives_on_hides_no_death(running: Running) -> None:
    async with running(**ONE) as oban:
        began = time.monotonic()
        job = await run(oban, "fork and die")
        assert time.monotonic() - began < 10
        await is_unharmed(oban)
    assert "it exited with code 5" in error(job)


async def test_a_job_that_closes_all_files_fails_alone(running: Running) -> None:
    async with running(**ONE) as oban:
        job = await run(oban, "close files")
        assert "ProcessDied" in error(job)
        await is_unharmed(oban)


@pytest.mark.parametrize(
    ("do", "told"),
    [
        ("raise what has no text", "Unspeakable"),
        ("raise at length", "zzz"),
        ("exhaust memory", "MemoryError"),
        ("recurse", "RecursionError"),
        ("interrupt", "KeyboardInterrupt"),
    ],
)
async def test_whatever_a_job_raises_in_a_child_is_an_error_of_its_own(
    running: Running, do: str, told: str
) -> None:
    async with running(**ONE) as oban:
        first = await is_unharmed(oban)
        job = await run(oban, do)
        assert await is_unharmed(oban) == first, "the child goes on"
    assert job.state == "retryable"
    assert told in error(job)
    assert "ProcessDied" not in error(job)


@pytest.mark.parametrize("do", ["leave a thread", "leave tasks"])
async def test_a_job_that_leaves_something_running_holds_nobody_up(
    running: Running, do: str
) -> None:
    async with running(**ONE) as oban:
        left = await run(oban, do)
        assert await is_unharmed(oban) == left.recorded()
        began = time.monotonic()
    assert time.monotonic() - began < 10
    await gone(left.recorded())


async def test_a_job_in_a_child_may_have_processes_of_its_own(running: Running) -> None:
    async with running(**ONE) as oban:
        job = await run(oban, "use a pool")
        await is_unharmed(oban)
    assert job.recorded() == [1, 2]


async def test_a_process_that_a_job_forks_can_be_told_to_end_from_its_first_moment(
    running: Running,
) -> None:
    async with running(**ONE) as oban:
        job = await run(oban, "fork and terminate")
    assert job.recorded() == signal.SIGTERM


async def test_a_program_that_a_job_started_ends_with_it(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "program"
    args = {"do": "start a program", "file": str(file)}
    async with running(**ONE) as oban:
        job = await oban.enqueue(Hostile.new(args, timeout=0.5))
        program = await pid_in(file)
        (job,) = await ended(oban, job)
        assert "TimeoutError" in error(job)
        await gone(program)


async def test_the_import_of_a_worker_does_not_count_as_its_time(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBAN_TEST_SLOW_IMPORT", "1")
    async with running(**ONE) as oban:
        (job,) = await ended(oban, await oban.enqueue(slow_to_import.quick.new()))
    assert (job.state, job.errors) == ("completed", [])


# Signals, and the end of the node


NODE = """
import asyncio, os, signal
from oban import Oban
import tests.running.hostile

async def main():
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with Oban(pool=os.environ["DSN"], queues={"hostile": 2}, process_pool_size=2):
        print("up")
        await stopped.wait()
    print("stopped")

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.fixture
def node(tmp_path: Path, oban_dsn: str) -> Callable[..., Process]:
    def start(program: str = NODE) -> Process:
        file = tmp_path / "node.py"
        file.write_text(program)
        environment = {"DSN": oban_dsn, "PYTHONPATH": os.pathsep.join(sys.path)}
        return Process(PYTHON, file, log=tmp_path / "log", env=environment)

    return start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_to_all_processes_of_a_node_leaves_the_jobs_their_grace(
    client: Oban, node: Callable[..., Process], tmp_path: Path, number: signal.Signals
) -> None:
    file = tmp_path / "runs"
    job = await client.enqueue(Hostile.new({"do": "sleep", "file": str(file), "for": 1}))
    async with node() as process:
        pid = await pid_in(file)
        os.killpg(process.pid, number)  # as a terminal does
        os.kill(pid, number)  # as an init system does
        await process.line("stopped")
        assert await process.exited() == 0
    (job,) = await ended(client, job)
    assert (job.state, job.errors) == ("completed", [])
    await gone(pid)


async def test_a_signal_to_all_processes_while_a_child_starts_fails_no_job(
    client: Oban, node: Callable[..., Process], tmp_path: Path
) -> None:
    args = {"do": "sleep", "file": str(tmp_path / "runs"), "for": 0}
    async with node() as process:
        await process.line("up")
        job = await client.enqueue(Hostile.new(args))
        await reached(client, job, "executing")
        os.killpg(process.pid, signal.SIGINT)
        await process.line("stopped")
    (job,) = await ended(client, job)
    assert (job.state, job.errors) == ("completed", [])


@pytest.mark.parametrize("do", ["start a program", "hold the interpreter"])
async def test_nothing_of_a_job_outlives_a_node_that_is_killed(
    client: Oban, node: Callable[..., Process], tmp_path: Path, do: str
) -> None:
    file = tmp_path / "runs"
    await client.enqueue(Hostile.new({"do": do, "file": str(file)}))
    async with node() as process:
        pid = await pid_in(file)
        assert lives(pid)
        process.kill()
        await process.exited()
        await gone(pid)


async def test_a_program_that_ends_without_stopping_does_not_wait_for_its_children(
    client: Oban, node: Callable[..., Process], tmp_path: Path
) -> None:
    file = tmp_path / "runs"
    await client.enqueue(Hostile.new({"do": "sleep", "file": str(file), "for": 60}))
    forgetful = NODE.replace("await stopped.wait()", "await stopped.wait(); raise SystemExit(3)")
    forgetful = forgetful.replace("async with Oban", "oban = Oban").replace(
        "process_pool_size=2):", "process_pool_size=2)\n    if await oban.start():"
    )
    async with node(forgetful) as process:
        pid = await pid_in(file)
        process.terminate()
        assert await process.exited() == 3
        await gone(pid)


# What is left


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts files as Linux shows them")
async def test_children_that_died_leave_no_file_and_no_thread(running: Running) -> None:
    async with running(queues={"hostile": 4}, process_pool_size=4) as oban:
        await is_unharmed(oban)
        files, threads = open_files(), threading.active_count()
        jobs = [await oban.enqueue(Hostile.new({"do": "close files"})) for _ in range(12)]
        await ended(oban, *jobs)

        async def as_before() -> bool:
            return open_files() <= files + 4 and threading.active_count() <= threads + 8

        await eventually(as_before)


async def test_a_child_serves_one_event_loop_after_the_other() -> None:
    def pid() -> Any:
        return asyncio.run(process_job(Hostile.new({"do": "nothing"}))).value

    first = await asyncio.to_thread(pid)
    assert await asyncio.to_thread(pid) == first
    assert (await process_job(Hostile.new({"do": "nothing"}))).value == first
