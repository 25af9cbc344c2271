"""Jobs in child processes: what crosses, how they end, and whom a death concerns."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.faults.processes import PYTHON, Process
from tests.running import only_in_nodes
from tests.running.in_processes import Awaiting, Child, Judged, broken, model, session, whoami
from tests.running.support import Running, eventually, named, reached

from oban import Job, Oban, job
from oban.errors import ProcessDied, RaisedInProcess
from oban.testing import drain_queue, process_job

ENDED = ("completed", "retryable", "discarded", "cancelled", "scheduled")
CHILDREN = {"children": 4}


async def ended(oban: Oban, *jobs: Job) -> list[Job]:
    return [await reached(oban, each, *ENDED, deadline=30) for each in jobs]


def error(job: Job) -> str:
    return str(job.errors[-1]["error"])


def lives(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def pid_in(file: Path) -> int:
    async def look() -> str:
        return file.read_text() if file.exists() else ""

    return int(await eventually(look, 30))


async def gone(pid: int) -> None:
    async def look() -> bool:
        return not lives(pid)

    await eventually(look, 10)


async def test_jobs_of_all_kinds_run_in_one_child_that_is_used_again(running: Running) -> None:
    async with running(queues={"children": 1}) as oban:
        enqueued = [
            await oban.enqueue(each)
            for each in (Child.new({"do": "pid"}), Awaiting.new(), whoami.new("ada"))
        ]
        first, second, third = await ended(oban, *enqueued)
    pid = first.recorded()
    assert pid != os.getpid()
    assert second.recorded() == [pid, second.id]
    assert third.recorded() == ["ada", pid, third.id]


async def test_outcomes_cross_as_what_they_mean(running: Running) -> None:
    told = {"do": "fields"}
    async with running(queues=CHILDREN, process_pool_size=1) as oban:
        enqueued = [
            await oban.enqueue(Child.new({"do": each}))
            for each in ("snooze", "cancel", "discard", "object", "fail", "leave")
        ]
        enqueued.append(await oban.enqueue(Child.new(told, meta={"a": "ü\ud7ff"})))
        snoozed, cancelled, discarded, done, failed, left, fields = await ended(oban, *enqueued)
    assert (snoozed.state, snoozed.attempt, snoozed.meta["why"]) == ("scheduled", 0, "busy")
    assert (cancelled.state, error(cancelled)) == ("cancelled", "{'code': 7}")
    assert (discarded.state, error(discarded)) == ("discarded", "no reason given")
    assert done.state == "completed"
    assert failed.state == left.state == "retryable"
    assert error(failed).startswith("Traceback (most recent call last):")
    assert "in_processes.py" in error(failed)
    assert "src/oban" not in error(failed)
    assert error(failed).endswith("ValueError: in the child\n")
    assert "SystemExit: 3" in error(left)
    assert fields.recorded() == [1, "children", "executing", "ü\ud7ff"]


@pytest.mark.parametrize(
    ("do", "how"),
    [
        ({"do": "kill"}, "it was killed by SIGKILL"),
        ({"do": "exit", "code": 3}, "it exited with code 3"),
        ({"do": "exit", "code": 0}, "it exited with code 0"),
    ],
)
async def test_a_child_that_dies_fails_its_own_attempt_and_no_other(
    running: Running, tmp_path: Path, do: dict[str, Any], how: str
) -> None:
    file = tmp_path / "runs"
    async with running(queues=CHILDREN, process_pool_size=2) as oban:
        beside = await oban.enqueue(Child.new({"do": "wait", "file": str(file)}))
        pid = await pid_in(file)
        (dead,) = await ended(oban, await oban.enqueue(Child.new(do)))
        (after,) = await ended(oban, await oban.enqueue(Child.new({"do": "pid"})))
        assert lives(pid), "the job beside it goes on"
        assert (await reached(oban, beside, "executing")).errors == []
        assert oban.check_all_queues()[0].running == [beside.id]
    assert (dead.state, dead.attempt) == ("retryable", 1)
    assert "ProcessDied: the child process" in error(dead)
    assert "Traceback" not in error(dead)
    assert how in error(dead) or "how is not known" in error(dead)
    assert after.recorded() not in (None, pid)
    await gone(pid)


async def test_a_child_that_is_killed_from_outside_fails_its_job_alone(
    running: Running, tmp_path: Path, events: list[Any]
) -> None:
    files = [tmp_path / "one", tmp_path / "two"]
    async with running(queues=CHILDREN, process_pool_size=2) as oban:
        jobs = [await oban.enqueue(Child.new({"do": "wait", "file": str(at)})) for at in files]
        pids = [await pid_in(file) for file in files]
        os.kill(pids[0], signal.SIGKILL)
        (dead,) = await ended(oban, jobs[0])
        assert lives(pids[1])
        await reached(oban, jobs[1], "executing")
    assert "it was killed by SIGKILL" in error(dead)
    (told,) = named(events, "oban.job.exception")
    assert (told["job"].id, told["error_type"]) == (dead.id, "ProcessDied")


async def test_an_idle_child_that_dies_is_replaced(running: Running) -> None:
    async with running(queues={"children": 1}) as oban:
        (first,) = await ended(oban, await oban.enqueue(Child.new({"do": "pid"})))
        os.kill(first.recorded(), signal.SIGKILL)
        await gone(first.recorded())
        (second,) = await ended(oban, await oban.enqueue(Child.new({"do": "pid"})))
    assert (second.state, second.errors) == ("completed", [])
    assert second.recorded() != first.recorded()


@pytest.mark.parametrize("is_known", [True, False], ids=["known worker", "another worker"])
async def test_a_job_whose_idle_child_dies_before_it_begins_runs_on_another(
    running: Running, events: list[Any], is_known: bool
) -> None:
    async with running(queues={"children": 1}) as oban:
        (first,) = await ended(oban, await oban.enqueue(Child.new({"do": "pid"})))
        pid = first.recorded()
        (child,) = oban.executor.places.children.idle  # until the job has it, which may be soon
        os.kill(pid, signal.SIGSTOP)  # it lives, and takes nothing
        job = await oban.enqueue(Child.new({"do": "pid"}) if is_known else Awaiting.new())

        async def is_asked() -> bool:
            return child.ended is not None and not child.ended.done()

        await eventually(is_asked)
        os.kill(pid, signal.SIGKILL)
        (second,) = await ended(oban, job)
    assert (second.state, second.attempt, second.errors) == ("completed", 1, [])
    assert second.recorded() not in (pid, [pid, second.id])
    assert named(events, "oban.job.exception") == []


async def test_a_job_that_is_given_to_a_pool_as_it_breaks_runs_on_another(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool forgets it: nothing tells of its end."""
    async with running(queues={"children": 1}) as oban:
        (first,) = await ended(oban, await oban.enqueue(Child.new({"do": "pid"})))
        (child,) = oban.executor.places.children.idle
        pool = child.pool
        assert pool is not None
        check: Callable[[], None] = pool._check_pool_status

        def check_and_break() -> None:
            check()
            os.kill(first.recorded(), signal.SIGKILL)
            ends = time.monotonic() + 10
            while pool.active:
                assert time.monotonic() < ends
                time.sleep(0.01)

        monkeypatch.setattr(pool, "_check_pool_status", check_and_break)
        (second,) = await ended(oban, await oban.enqueue(Child.new({"do": "pid"})))
    assert (second.state, second.attempt, second.errors) == ("completed", 1, [])
    assert second.recorded() != first.recorded()


async def test_there_are_no_more_children_than_the_pool_has_places(
    running: Running, tmp_path: Path
) -> None:
    async with running(queues=CHILDREN, process_pool_size=1) as oban:
        running_job = await oban.enqueue(
            Child.new({"do": "wait", "file": str(tmp_path / "runs")}, timeout=0.5)
        )
        await pid_in(tmp_path / "runs")
        waiting = await oban.enqueue(Child.new({"do": "pid"}, timeout=0.4))
        first, second = await ended(oban, running_job, waiting)
    assert first.state == "retryable"
    assert second.state == "completed", "time that it waits for a child does not count"


async def test_a_cancelled_child_is_killed_after_the_grace(
    running: Running, tmp_path: Path, oban_dsn: str, events: list[Any]
) -> None:
    file = tmp_path / "runs"
    async with running(queues={"children": 1}, cancel_grace_period=0.1) as oban:
        job = await oban.enqueue(Child.new({"do": "wait", "file": str(file)}))
        pid = await pid_in(file)
        assert await oban.cancel_job(job)
        await gone(pid)
        (after,) = await ended(oban, await oban.enqueue(Child.new({"do": "pid"})))
        (cancelled,) = await ended(oban, job)
    assert (cancelled.state, after.state) == ("cancelled", "completed")
    assert "it was killed by SIGKILL" in error(cancelled)
    assert named(events, "oban.producer.stuck") == []


async def test_a_node_that_stops_gives_back_the_job_and_leaves_no_child(
    running: Running, tmp_path: Path, client: Oban
) -> None:
    file = tmp_path / "runs"
    async with running(queues=CHILDREN, shutdown_grace_period=0.5) as oban:
        (done,) = await ended(oban, await oban.enqueue(Child.new({"do": "pid"})))
        job = await oban.enqueue(Child.new({"do": "wait", "file": str(file)}))
        pid = await pid_in(file)
        other = await oban.enqueue(Child.new({"do": "wait", "file": str(tmp_path / "other")}))
        await pid_in(tmp_path / "other")
    await gone(pid)
    await gone(done.recorded())
    for each in (job, other):
        found = await client.get_job(each)
        assert found is not None
        assert (found.state, found.attempt, found.errors) == ("available", 0, [])


async def test_a_child_that_was_still_starting_when_the_node_stopped_is_not_left(
    running: Running, client: Oban
) -> None:
    before = set(multiprocessing.active_children())
    async with running(queues=CHILDREN, shutdown_grace_period=0.0) as oban:
        job = await oban.enqueue(Child.new({"do": "pid"}))
        await reached(oban, job, "executing")

    async def none_left() -> bool:
        return not set(multiprocessing.active_children()) - before

    await eventually(none_left)
    assert (await reached(client, job, "available")).attempt == 0


async def test_a_def_in_a_child_may_return_what_is_to_be_awaited() -> None:
    assert (await process_job(Child.new({"do": "await"}))).value == "awaited"


NODE = """
import asyncio, os
from oban import Oban
import tests.running.in_processes

async def main():
    async with Oban(pool=os.environ["DSN"], queues={"children": 2}, process_pool_size=2):
        print("up")
        await asyncio.sleep(60)

if __name__ == "__main__":
    asyncio.run(main())
"""


async def test_children_end_when_their_node_is_killed(
    client: Oban, oban_dsn: str, tmp_path: Path
) -> None:
    program = tmp_path / "node.py"
    program.write_text(NODE)
    environment = {"DSN": oban_dsn, "PYTHONPATH": os.pathsep.join(sys.path)}
    idle = await client.enqueue(Child.new({"do": "pid"}))
    async with Process(PYTHON, program, log=tmp_path / "log", env=environment) as node:
        (done,) = await ended(client, idle)
        file = tmp_path / "runs"
        await client.enqueue(Child.new({"do": "wait", "file": str(file)}))
        await client.enqueue(Child.new({"do": "wait", "file": str(tmp_path / "other")}))
        pids = {await pid_in(file), await pid_in(tmp_path / "other")}
        assert done.recorded() in pids
        node.kill()
        await node.exited()
        for pid in pids:
            await gone(pid)


async def test_a_program_without_a_guard_is_told_so_and_runs_nothing_twice(
    client: Oban, oban_dsn: str, tmp_path: Path
) -> None:
    program = tmp_path / "node.py"
    program.write_text(NODE.replace('if __name__ == "__main__":', "if True:"))
    environment = {"DSN": oban_dsn, "PYTHONPATH": os.pathsep.join(sys.path)}
    job = await client.enqueue(Child.new({"do": "pid"}))
    async with Process(PYTHON, program, log=tmp_path / "log", env=environment):
        (failed,) = await ended(client, job)
    assert "ProcessDied" in error(failed)
    assert 'if __name__ == "__main__"' in error(failed)


async def test_resources_of_a_child_are_opened_once_and_closed(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "notes"
    monkeypatch.setenv("OBAN_TEST_NOTES", str(notes))
    resources = {"model": model, "session": session, "local": lambda: model()}
    async with running(queues={"children": 1}, resources=resources) as oban:
        names = ("session", "local", "else")
        used = [await oban.enqueue(Child.new({"do": "use"})) for _ in range(3)]
        lacking = [
            await oban.enqueue(Child.new({"do": "use missing", "name": name})) for name in names
        ]
        jobs = await ended(oban, *used)
        asynchronous, local, other = await ended(oban, *lacking)
        pid = jobs[0].recorded()[0]
        assert [each.recorded() for each in jobs] == [[pid, "a model"]] * 3
    assert "its context manager is async" in error(asynchronous)
    assert "cannot import its factory" in error(local)
    assert "there are: model" in error(other)
    lines = notes.read_text().splitlines()
    assert [line for line in lines if str(pid) in line] == [f"open {pid}", f"close {pid}"]
    assert lines.count(f"open {os.getpid()}") == lines.count(f"close {os.getpid()}") == 2


async def test_a_resource_that_cannot_be_opened_fails_the_jobs_of_the_child(
    running: Running,
) -> None:
    async with running(queues=CHILDREN) as oban:
        oban.executor.places.factories = {"model": broken}
        (failed,) = await ended(oban, await oban.enqueue(Child.new({"do": "pid"})))
        assert oban.executor.places.children.idle == []
    assert "FileNotFoundError" in error(failed)


async def test_a_resource_that_no_child_can_import_is_told_in_the_errors_of_its_jobs(
    running: Running,
) -> None:
    async with running(queues=CHILDREN, resources={"local": only_in_nodes.local}) as oban:
        (failed,) = await ended(oban, await oban.enqueue(Child.new({"do": "pid"})))
    assert "RuntimeError: not here" in error(failed)
    assert "ProcessDied" not in error(failed)


async def test_a_job_that_no_child_can_find_fails_and_says_so(running: Running) -> None:
    @job(queue="children", executor="process")
    def hidden() -> None: ...

    async with running(queues=CHILDREN) as oban:
        (failed,) = await ended(oban, await oban.enqueue(hidden.new()))
    assert "UnknownWorker" in error(failed)


async def test_the_testing_helpers_run_jobs_in_children(client: Oban) -> None:
    assert (await process_job(Child.new({"do": "pid"}))).value != os.getpid()
    with pytest.raises(RaisedInProcess, match="ValueError: in the child"):
        await process_job(Child.new({"do": "fail"}))
    with pytest.raises(ProcessDied):
        await process_job(Child.new({"do": "kill"}))
    await client.enqueue(Child.new({"do": "pid"}))
    await client.enqueue(Child.new({"do": "kill"}))
    counts = await drain_queue("children", with_safety=True)
    assert (counts["completed"], counts["retryable"]) == (1, 1)


async def test_hooks_and_the_policy_of_a_worker_hold_in_its_child(running: Running) -> None:
    async with running(queues=CHILDREN, process_pool_size=1) as oban:
        jobs = [
            await oban.enqueue(Judged.new({"raise": what}))
            for what in ("key", "throttled", "limited", "nothing")
        ]
        key, throttled, limited, nothing = await ended(oban, *jobs)
    assert (key.state, throttled.state, limited.state) == ("discarded", "scheduled", "scheduled")
    assert "KeyError: 'gone'" in error(key)
    assert (throttled.attempt, throttled.meta["snoozed"]) == (0, 1)
    assert (limited.attempt, limited.errors) == (0, [])
    assert nothing.recorded() is True
