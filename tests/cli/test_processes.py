"""`oban start --processes`: a parent that keeps its children running; and how a node is asked."""

import asyncio
import json
import os
import re
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.cli.application import Application, rows
from tests.cli.conftest import Command
from tests.faults.bouncer import free_port
from tests.faults.processes import Process
from tests.running.support import eventually

from oban.cli.announcer import Announcer
from oban.cli.logs import LogFormat
from oban.cli.processes import Limits, Parent, process_count
from oban.cli.vitals import summed_up

pytestmark = pytest.mark.slow


def ask(port: int, path: str = "/ready") -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def arguments(dsn: str, *more: str) -> list[str]:
    return ["--dsn", dsn, "--queues", "default:4", "--log-format", "text", *more]


async def pids_of(parent: Process) -> list[int]:
    await parent.line("2 processes are running; limits are per process, so together: default 8")
    return children_of(parent.pid)


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(each) for each in text.split()]


async def test_several_processes_run_as_one_node_and_stop_together(
    application: Application, oban_dsn: str
) -> None:
    port = free_port()
    more = ["--processes", "2", "--health-port", f"127.0.0.1:{port}"]
    async with application.start(*arguments(oban_dsn, *more)) as parent:
        pids = await pids_of(parent)
        code, told = await asyncio.to_thread(ask, port)
        assert (code, told["status"]) == (200, "ok")
        assert sorted(each["pid"] for each in told["processes"]) == sorted(pids)
        assert [each["leader"] for each in told["processes"]].count(True) <= 1
        application.enqueue(oban_dsn, "quick")

        async def done() -> bool:
            return rows(oban_dsn)[0][1] == "completed"

        await eventually(done)
        parent.terminate()
        assert await parent.exited() == 0
    assert not any(map(is_alive, pids))


async def test_a_child_that_dies_is_started_again_and_its_jobs_run_again(
    application: Application, oban_dsn: str
) -> None:
    application.write("oban.toml", "refresher = { interval = 0.3 }\nshutdown_grace_period = 1.0\n")
    more = ["--processes", "2", "--queues", "default:1", "--node", "web-1"]
    async with application.start(*arguments(oban_dsn), *more) as parent:
        await parent.line("2 processes are running")
        application.enqueue(oban_dsn, "Patient")

        async def running(attempt: int) -> bool:
            return rows(oban_dsn)[0][1:3] == ("executing", attempt)

        await eventually(lambda: running(1))
        for pid in children_of(parent.pid):
            os.kill(pid, signal.SIGKILL)
        await parent.line("ended by SIGKILL after .*; it starts again in 0.5 s", count=2)
        await eventually(lambda: running(2), 20)
        told = r"warn    lifeline.rescue.stop .*  jobs=1 rescued \(#\d+\)  nodes=\['web-1'\]"
        await parent.line(told)
        parent.terminate()
        assert await parent.exited() == 0


async def test_a_child_past_its_limit_of_jobs_is_replaced(
    application: Application, oban_dsn: str
) -> None:
    more = ["--processes", "1", "--max-jobs", "3"]
    async with application.start(*arguments(oban_dsn, *more)) as parent:
        await parent.line("1 process is running")
        application.enqueue(oban_dsn, *["quick"] * 5)
        await parent.line("process 1 is replaced: it has run 5 jobs of 3")
        application.enqueue(oban_dsn, "quick")

        async def done() -> bool:
            return {row[1] for row in rows(oban_dsn)} == {"completed"}

        await eventually(done)
        parent.terminate()
        assert await parent.exited() == 0


async def test_a_start_that_cannot_succeed_ends_all(application: Application, dsn: str) -> None:
    async with application.start(*arguments(dsn, "--processes", "2")) as parent:
        assert await parent.exited() == 1
        assert "oban install" in parent.output


async def test_a_parent_that_is_killed_takes_its_children_along(
    application: Application, oban_dsn: str
) -> None:
    async with application.start(*arguments(oban_dsn, "--processes", "2")) as parent:
        pids = await pids_of(parent)
        parent.kill()

        async def gone() -> bool:
            return not any(map(is_alive, pids))

        await eventually(gone)


async def test_a_node_says_how_it_is_and_that_it_stops(
    application: Application, oban_dsn: str
) -> None:
    application.write(
        "waiting.py",
        """
        import asyncio, pathlib
        from oban import job
        @job()
        async def wait(kept):
            while not pathlib.Path("enough").exists():
                await asyncio.sleep(0.01)
        """,
    )
    port = free_port()
    async with application.start(*arguments(oban_dsn, "--health-port", str(port))) as node:
        await node.line("is running")
        application.enqueue(oban_dsn, "waiting.wait")
        code, told = await asyncio.to_thread(ask, port)
        assert (code, told["status"], told["live"]) == (200, "ok", True)
        assert told["queues"]["default"]["limit"] == 4
        assert told["schema_version"] >= 9

        async def busy() -> bool:
            return bool((await asyncio.to_thread(ask, port))[1]["queues"]["default"]["running"])

        await eventually(busy)
        node.terminate()
        await node.line("SIGTERM")
        code, told = await asyncio.to_thread(ask, port)
        assert (code, told["stopping"]) == (503, True)
        assert (await asyncio.to_thread(ask, port, "/live"))[0] == 200
        application.write("enough", "")
        assert await node.exited() == 0


async def test_a_node_whose_loop_is_wedged_ends_so_that_it_is_started_again(
    application: Application, oban_dsn: str
) -> None:
    application.write("oban.toml", "refresher = { interval = 0.3, max_block = 2.0 }\n")
    queues = ["--queues", "blocked:1"]
    async with application.start(*arguments(oban_dsn), *queues) as node:
        await node.line("is running")
        application.enqueue(oban_dsn, "Blocking", queue="blocked")
        await node.line("refresher.blocked")
        assert await node.exited(timeout=15) == 1
        assert "refresher.wedged" in node.output
        assert "time.sleep(60)" in node.output  # the stacks say where


async def test_what_was_commanded_is_told_at_the_start(
    application: Application, oban_dsn: str, command: Command
) -> None:
    from oban import Oban

    async with Oban(pool=oban_dsn) as client:
        await client.pause_queue("default")
    async with application.start(*arguments(oban_dsn)) as node:
        await node.line("warn    queue default: paused is true by a command to all nodes at 20")
        assert "queue.control" not in node.output  # it is told once
        async with Oban(pool=oban_dsn) as client:
            await client.resume_queue("default")
        await node.line("info    queue.control .*aspect=paused  value=False")


async def test_processes_tell_once_what_they_have_in_common(
    application: Application, oban_dsn: str
) -> None:
    from oban import Oban

    async with Oban(pool=oban_dsn) as client:
        await client.scale_queue("default", 2)
    more = ["--processes", "2", "--node", "web-1", "--health-port", "127.0.0.1:0"]
    async with application.start(*arguments(oban_dsn, *more)) as parent:
        await parent.line(r"^\d\d:\d\d:\d\d\.\d{3} info    2 processes are running.*: default 4$")
        await parent.line(r"^\d\d:\d\d:\d\d\.\d{3} warn    queue default: limit is 2 by")
        (port,) = re.findall(r"health +127\.0\.0\.1:(\d+), at /ready and /live", parent.output)
        assert (await asyncio.to_thread(ask, int(port)))[0] == 200
        assert f"web-1, pid {parent.pid}" in parent.output
        parent.terminate()
        assert await parent.exited() == 0
    assert parent.output.count("limit is 2 by") == 1
    assert "queue.control" not in parent.output


@pytest.mark.parametrize("processes", [[], ["--processes", "2"]])
async def test_a_second_interrupt_has_the_same_code_for_one_process_and_for_many(
    application: Application, oban_dsn: str, processes: list[str]
) -> None:
    async with application.start(*arguments(oban_dsn, *processes)) as node:
        await node.line("waits up to 15 s")
        application.enqueue(oban_dsn, "Patient", "Patient")
        await node.line("start .* jobs_of_mine.Patient ", count=2)
        node.send(signal.SIGINT)
        await node.line("stopping, waiting up to 15 s")
        node.send(signal.SIGINT)
        assert await node.exited(timeout=5) == 130
    assert "all processes have stopped" not in node.output


async def test_a_health_port_that_is_taken_fails_before_anything_starts(
    application: Application, oban_dsn: str
) -> None:
    application.write("told.py", "from oban import job\nprint('imported')\n@job()\ndef x(): ...\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for processes in ([], ["--processes", "2"]):
            more = ["--health-port", f"127.0.0.1:{port}", *processes]
            async with application.start(*arguments(oban_dsn, *more)) as node:
                assert await node.exited() == 1
            assert node.output.startswith(f"error: --health-port 127.0.0.1:{port} cannot be opened")


async def test_a_node_that_starts_answers_that_it_is_not_ready_and_lives(
    application: Application, oban_dsn: str
) -> None:
    application.write(
        "slow.py",
        """
        import pathlib, time
        from oban import job
        print("importing", flush=True)
        while not pathlib.Path("enough").exists():
            time.sleep(0.01)
        @job()
        def one(): ...
        """,
    )
    port = free_port()
    more = ["--health-port", str(port)]
    async with application.start(*arguments(oban_dsn, *more)) as node:
        await node.line("importing")
        assert (await asyncio.to_thread(ask, port))[0] == 503
        assert (await asyncio.to_thread(ask, port, "/live"))[0] == 200
        application.write("enough", "")
        await node.line(f"health +0.0.0.0:{port}, at /ready and /live")
        assert (await asyncio.to_thread(ask, port))[0] == 200


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--processes", "0"], "--processes is '0'"),
        (["--processes", "many"], "a number from 1 to 1024, or auto"),
        (["--processes", "2", "--reload"], "--reload and --processes"),
        (["--max-jobs", "2"], "need --processes"),
        (["--health-port", "http"], "--health-port is 'http'"),
    ],
)
def test_wrong_use_is_said(command: Command, oban_dsn: str, options: list[str], said: str) -> None:
    ran = command("start", "--dsn", oban_dsn, "--queues", "a:1", *options)
    assert ran.code == 2
    assert said in ran.err


def test_auto_is_a_process_for_each_core() -> None:
    assert process_count("auto") == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("hurried", "codes", "code"),
    [
        (False, [], 0),
        (False, [0, 0], 0),
        (False, [0, -signal.SIGTERM], 0),
        (False, [0, 1], 1),
        (False, [0, -signal.SIGKILL], 1),
        (False, [0, 130], 0),
        (True, [0, 0], 0),
        (True, [0, 130], 130),
        (True, [1, 130], 130),
    ],
)
def test_processes_together_end_as_one_would(hurried: bool, codes: list[int], code: int) -> None:
    parent = Parent(2, [], Limits(), Announcer(LogFormat.TEXT))
    parent.hurried, parent.codes = hurried, codes
    assert parent.exit_code() == code


def test_limits_say_why_they_are_passed() -> None:
    vitals = {"memory": 300 * 2**20, "jobs": 10}
    assert Limits().passed(vitals) is None
    assert Limits(memory=301, jobs=11).passed(vitals) is None
    assert Limits(memory=299).passed(vitals) == "it occupies 300 MiB of 299"
    assert Limits(jobs=10).passed(vitals) == "it has run 10 jobs of 10"


@pytest.mark.parametrize(
    ("states", "together"),
    [
        (["ok", "ok"], "ok"),
        (["ok", "failing"], "degraded"),
        (["failing"], "failing"),
        ([], "failing"),
    ],
)
def test_the_sum_of_processes_fails_when_all_do(states: list[str], together: str) -> None:
    assert summed_up([{"status": state} for state in states])["status"] == together
