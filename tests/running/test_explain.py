"""Each cause as it comes about: real nodes, and what is said of a job that they do not run."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.roads import ROAD
from tests.running.support import Running, eventually, reached

from oban import Cancel, Discard, Job, Oban, RateLimited, Record, Snooze, Worker, worker
from oban.explanation import Cause, Explanation

QUICK = {"interval": 0.1, "max_age": 1}


@worker()
class Gated(Worker):
    gate: asyncio.Event

    async def process(self, job: Job) -> None:
        await Gated.gate.wait()


@worker()
class OnThread(Worker):
    gate = threading.Event()

    def process(self, job: Job) -> None:
        OnThread.gate.wait(20)


@worker()
class Blocking(Worker):
    async def process(self, job: Job) -> None:
        OnThread.gate.wait(4)


@worker(max_attempts=1)
class Ending(Worker):
    async def process(self, job: Job) -> Any:
        match job.args.get("how"):
            case "raise":
                raise ValueError("no such address\nat all")
            case "snooze":
                return Snooze(60)
            case "cancel":
                return Cancel("not needed")
            case "discard":
                return Discard("no such customer")
            case "slow":
                raise RateLimited(60)
            case "record":
                return Record(1)
        return None


@pytest.fixture(autouse=True)
async def gate() -> AsyncIterator[None]:
    Gated.gate = asyncio.Event()
    OnThread.gate.clear()
    yield
    Gated.gate.set()
    OnThread.gate.set()


async def explained(oban: Oban, job: Job | int, *codes: str) -> Explanation:
    """What is said of the job, once it is this; what a heartbeat tells comes with the next one."""
    last: list[str] = []

    async def look() -> Explanation | None:
        found = await oban.explain(job)
        assert found is not None
        last[:] = [each.code for each in found.causes]
        if ROAD and "polling" not in codes and last[-1:] == ["polling"]:
            last.pop()  # so it is said of every job that waits on a road without notifications
        return found if last == list(codes) else None

    try:
        found = await eventually(look)
    except AssertionError:
        raise AssertionError(f"{last} and not {codes}") from None
    assert found is not None
    return found


async def cause(oban: Oban, job: Job | int, *codes: str) -> Cause:
    return (await explained(oban, job, *codes)).causes[0]


async def is_paused(oban: Oban) -> bool:
    """Whether the node does not claim from its queue any more."""
    queue = oban.check_queue("default")
    return queue is not None and queue.paused


async def after(oban: Oban, how: str, state: str, *codes: str, **options: Any) -> Cause:
    """Of a job that ran and did so."""
    job = await oban.enqueue(Ending.new({"how": how}, **options))
    await reached(oban, job, state)
    return await cause(oban, job, *codes)


async def test_there_may_be_no_such_job(client: Oban) -> None:
    assert await client.explain(1) is None
    assert await asyncio.to_thread(client.explain_sync, 1) is None


async def test_it_is_part_of_the_callers_transaction(client: Oban, oban_dsn: str) -> None:
    pool = await Oban.create_pool(oban_dsn)
    async with pool, pool.connection() as conn, conn.transaction():
        job = await client.enqueue(Gated.new(), conn=conn)
        assert await client.explain(job, conn=conn) is not None
        assert await client.explain(job) is None


async def test_no_node_runs_the_queue(running: Running) -> None:
    async with running(queues={"mailers": 5}) as oban:
        job = await oban.enqueue(Gated.new(queue="maillers"))
        found = await cause(oban, job, "no_node")
    assert found.details["near"] == ["mailers"]


async def test_a_queue_is_paused_and_stopped_by_commands(running: Running) -> None:
    async with running(refresher=QUICK, node="web-1") as oban:
        await oban.pause_queue("default", until=timedelta(hours=1))
        await eventually(lambda: is_paused(oban))  # what is claimed before it hears of it runs on
        job = await oban.enqueue(Gated.new())
        paused = await cause(oban, job, "queue_paused")
        await oban.stop_queue("default")
        stopped = await cause(oban, job, "queue_stopped")
    assert paused.details["nodes"] == ["web-1"]
    assert paused.details["commanded"] is True
    assert "it resumes by itself in" in paused.text
    assert (stopped.advice or "").startswith("oban queues start default")


async def test_a_queue_is_paused_by_its_configuration(running: Running) -> None:
    async with running(queues={"default": {"limit": 2, "paused": True}}) as oban:
        found = await cause(oban, await oban.enqueue(Gated.new()), "queue_paused")
    assert found.details["commanded"] is False


async def test_all_slots_are_busy(running: Running) -> None:
    async with running(queues={"default": 1}) as oban:
        first = await reached(oban, await oban.enqueue(Gated.new()), "executing")
        jobs = await oban.enqueue_many(Gated.new() for _ in range(2))
        busy = await cause(oban, jobs[1], "slots_busy", "jobs_ahead")
        Gated.gate.set()
    assert busy.details["longest_id"] == first.id
    assert f"oban explain {first.id}" in (busy.advice or "")


async def test_the_limit_of_the_queue_is_full(running: Running) -> None:
    async with running(queues={"default": {"limit": 5, "global_limit": 1}}) as oban:
        await reached(oban, await oban.enqueue(Gated.new()), "executing")
        found = await cause(oban, await oban.enqueue(Gated.new()), "global_limit_full")
        Gated.gate.set()
    assert (found.details["running"], found.details["global_limit"]) == (1, 1)


async def test_the_rate_of_the_queue_is_used_up(running: Running) -> None:
    rate = {"limit": 5, "rate_limit": {"allowed": 1, "period": 60}}
    async with running(queues={"default": rate}) as oban:
        await reached(oban, await oban.enqueue(Ending.new()), "completed")
        found = await cause(oban, await oban.enqueue(Ending.new()), "rate_used")
    assert 30 < (found.details["until"] - datetime.now(UTC)).total_seconds() < 70


async def test_the_partition_is_full(running: Running) -> None:
    divided = {"limit": 5, "global_limit": 1, "partition": {"by": {"args": "tenant"}}}
    async with running(queues={"default": divided}) as oban:
        await reached(oban, await oban.enqueue(Gated.new({"tenant": 1})), "executing")
        job = await oban.enqueue(Gated.new({"tenant": 1}))
        await cause(oban, job, "partition_full")
        other = await oban.enqueue(Gated.new({"tenant": 2}))
        await reached(oban, other, "executing")
        Gated.gate.set()


async def test_a_shared_limit_is_full_unknown_or_rests(running: Running) -> None:
    async with running(limits={"api": 1, "slow": 5}) as oban:
        await reached(oban, await oban.enqueue(Gated.new(limits=["api"])), "executing")
        await cause(oban, await oban.enqueue(Gated.new(limits=["api"])), "shared_limit_full")
        unknown = await oban.enqueue(Gated.new(limits=["ipa"]))
        assert (await cause(oban, unknown, "unknown_limit")).details == {"limit": "ipa"}
        await after(oban, "slow", "scheduled", "snoozed", limits=["slow"])
        resting = await oban.enqueue(Gated.new(limits=["slow"]))
        assert (await cause(oban, resting, "limit_resting")).details["limit"] == "slow"
        Gated.gate.set()


async def test_a_worker_is_unknown(running: Running) -> None:
    async with running() as oban:
        job = await oban.enqueue(Job(worker="no.such.Worker"))
        await reached(oban, job, "scheduled")
        scheduled = await cause(oban, job, "unknown_worker")
        last = await oban.enqueue(Job(worker="no.such.Worker", meta={"unknown_worker": 19}))
        await reached(oban, last, "discarded")
        discarded = await cause(oban, last, "unknown_worker")
    assert scheduled.details["tries"] == 1
    assert "20 times in a row" in discarded.text


async def test_how_a_run_ended_is_told(running: Running) -> None:
    async with running(node="web-1") as oban:
        await after(oban, "record", "completed", "completed")
        snoozed = await after(oban, "snooze", "scheduled", "snoozed")
        retried = await after(oban, "raise", "retryable", "backoff", max_attempts=2)
        exhausted = await after(oban, "raise", "discarded", "attempts_exhausted")
        cancelled = await after(oban, "cancel", "cancelled", "cancelled_itself")
        discarded = await after(oban, "discard", "discarded", "discarded_itself", max_attempts=5)
        past = datetime.now(UTC) - timedelta(seconds=5)
        await after(oban, "late", "cancelled", "deadline_missed", deadline=past)
    assert snoozed.details["snoozed"] == 1
    assert retried.details["error"] == exhausted.details["error"] == "ValueError: no such address"
    assert cancelled.text.startswith("attempt 1 cancelled itself on node web-1: not needed, in ")
    assert discarded.text == "attempt 1 of 5 discarded the job on node web-1: no such customer"


async def test_a_running_job_is_told_of_and_one_that_is_being_stopped(running: Running) -> None:
    async with running(refresher=QUICK, node="web-1") as oban:
        job = await reached(oban, await oban.enqueue(Gated.new(timeout=60)), "executing")
        found = await cause(oban, job, "running")
        assert found.details["node"] == "web-1"
        await oban.cancel_job(job)
        stopping = await oban.explain(job)
        assert stopping is not None
        assert stopping.causes[-1].code == "cancelled"
        Gated.gate.set()


async def test_what_a_node_tells_of_itself_explains_its_jobs(
    running: Running, client: Oban, server_dsn: str
) -> None:
    """It hears no notifications, runs over its time, rests for a suspect, and stops."""
    past = datetime.now(UTC) - timedelta(seconds=5)
    deaf = {"listen_dsn": server_dsn, "stager": {"interval": 0.1}}
    async with running(queues={"default": 2, "other": 1}, refresher=QUICK, **deaf) as oban:
        held = await oban.enqueue(OnThread.new(timeout=0.05))
        await cause(oban, held, "running", "past_timeout")
        other = await reached(oban, await oban.enqueue(Gated.new(queue="other")), "executing")
        suspect = await oban.enqueue(Gated.new(meta={"crashes": 2}))
        waits = await cause(oban, suspect, "not_begun", "runs_alone")
        assert waits.text.endswith("it starts when nothing else runs there")
        later = await oban.enqueue(Gated.new(queue="other", meta={"crashes": 2}, deadline=past))
        codes = ["node_reserved", "slots_busy", "runs_alone", "polling", "deadline_passed"]
        found = await cause(oban, later, *codes)
        assert found.details["job_ids"] == [suspect.id]
        stop = asyncio.create_task(oban.stop())
        await cause(client, other, "running", "node_stopping")
        Gated.gate.set()
        OnThread.gate.set()
        await stop


async def test_a_scheduled_job_waits_for_its_time(client: Oban) -> None:
    job = await client.enqueue(Gated.new(schedule_in=3600))
    found = await explained(client, job, "scheduled", "no_node")
    assert found.summary.startswith("it is due in 1 h: ") or "59 min" in found.summary
    assert found.causes[0].details["scheduled_at"] == job.scheduled_at
    hour = datetime.now(UTC) + timedelta(hours=1)
    late = await client.enqueue(Gated.new(schedule_in=7200, deadline=hour))
    await explained(client, late, "scheduled", "no_node", "deadline_passed")


async def test_code_blocks_the_event_loop(running: Running) -> None:
    def look(oban: Oban) -> set[str]:
        """From a thread: the loop has no time for it."""
        job = oban.enqueue_sync(Blocking.new())
        ends = time.monotonic() + 4
        while time.monotonic() < ends:
            found = oban.explain_sync(job)
            assert found is not None
            codes: set[str] = {each.code for each in found.causes}
            if "loop_blocked" in codes:
                OnThread.gate.set()
                return codes
        return set()

    async with running(refresher=QUICK) as oban:
        assert await asyncio.to_thread(look, oban) == {"running", "loop_blocked"}
