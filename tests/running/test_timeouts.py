"""An attempt that takes too long: on the loop, on a thread, in a process; and deadlines."""

import asyncio
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.running.in_processes import Child
from tests.running.support import Running, eventually, named, reached, soon
from tests.running.test_processes import gone, lives, pid_in

from oban import Hooks, Job, Oban, Record, Worker, job, worker

SEEN: dict[str, Any] = {}
SHORT = 0.1


@pytest.fixture(autouse=True)
def fresh() -> None:
    SEEN.clear()
    SEEN["started"] = asyncio.Event()
    SEEN["release"] = threading.Event()


@worker(timeout=SHORT, max_attempts=2)
class Endless(Worker):
    async def process(self, job: Job) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            SEEN["cancelled"] = job.cancelled()


@worker(timeout=SHORT)
class Stubborn(Worker):
    async def process(self, job: Job) -> Any:
        while not SEEN["release"].is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                SEEN["cancelled"] = SEEN.get("cancelled", 0) + 1
        return Record("done after all")


@worker(timeout=SHORT)
class Lenient(Worker):
    async def process(self, job: Job) -> Any:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return Record("done after all")


@worker(timeout=SHORT)
class Threaded(Worker):
    def process(self, job: Job) -> Any:
        assert SEEN["release"].wait(10)
        SEEN["cancelled"] = job.cancelled()
        if job.args.get("fail"):
            raise RuntimeError("late")
        return Record("done after all")


@worker(timeout=SHORT)
class Handing(Worker):
    def process(self, job: Job) -> Any:
        assert SEEN["release"].wait(10)
        return asyncio.sleep(60)


@worker(timeout=60)
class Quick(Worker):
    async def process(self, job: Job) -> None:
        await asyncio.sleep(job.args.get("for", 0))


@worker(timeout=SHORT)
class Cleaning(Worker):
    async def process(self, job: Job) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise RuntimeError("while cleaning up")


@worker
class Unlimited(Worker):
    async def process(self, job: Job) -> None:
        SEEN["ran"] = True


async def told(events: list[Any], name: str) -> list[Any]:
    async def look() -> list[Any]:
        return named(events, name)

    return await eventually(look)


async def is_free(oban: Oban) -> None:
    """The slot of a queue with one slot takes another job."""
    await reached(oban, await oban.enqueue(Unlimited.new()), "completed")


ONE = {"default": 1}


async def test_an_async_job_past_its_timeout_is_cancelled_and_fails(
    running: Running, events: list[Any]
) -> None:
    async with running(queues=ONE) as oban:
        job = await reached(oban, await oban.enqueue(Endless.new()), "retryable")
        await is_free(oban)
    assert SEEN["cancelled"] is True, "job.cancelled() said so by then"
    error = job.errors[0]["error"]
    assert error.endswith("TimeoutError: the attempt took longer than its timeout of 0.1 seconds\n")
    assert "await asyncio.sleep(60)" in error, "where it was"
    (ended,) = named(events, "oban.job.exception")
    assert (ended["job"].id, ended["error_type"]) == (job.id, "TimeoutError")
    (timeout,) = named(events, "oban.job.timeout")
    assert (timeout["job"].id, timeout["timeout"], timeout["is_stoppable"]) == (job.id, SHORT, True)
    assert named(events, "oban.producer.stuck") == []


async def test_a_timeout_at_the_last_attempt_discards(running: Running) -> None:
    async with running() as oban:
        job = await reached(oban, await oban.enqueue(Endless.new(max_attempts=1)), "discarded")
    assert "TimeoutError" in job.errors[0]["error"]


async def test_an_async_job_that_swallows_it_keeps_its_slot_and_is_reported(
    running: Running, events: list[Any]
) -> None:
    async with running(queues=ONE, cancel_grace_period=0.05) as oban:
        job = await oban.enqueue(Stubborn.new())
        (stuck,) = await told(events, "oban.producer.stuck")
        assert stuck["job"].id == job.id
        waiting = await oban.enqueue(Unlimited.new())
        assert oban.check_all_queues()[0].running == [job.id]
        assert (await reached(oban, waiting, "available")).attempt == 0
        SEEN["release"].set()
        job = await reached(oban, job, "completed")
        await reached(oban, waiting, "completed")
    assert job.recorded() == "done after all"
    assert SEEN["cancelled"] == 2


class Slow(Hooks):
    async def after_process(self, job: Job, result: Any) -> None:
        await asyncio.sleep(0.3)

    async def on_error(self, job: Job, error: BaseException) -> None:
        await asyncio.sleep(0.3)


async def test_hooks_after_the_code_are_not_made_to_end_by_its_timeout(running: Running) -> None:
    async with running(cancel_grace_period=0.05, hooks=[Slow()]) as oban:
        failed = await reached(oban, await oban.enqueue(Endless.new()), "retryable")
        late = await oban.enqueue(Lenient.new())
        assert (await reached(oban, late, "completed", "retryable")).recorded() == "done after all"
    assert "TimeoutError: the attempt took longer" in failed.errors[0]["error"]


async def test_an_error_of_the_cleanup_is_kept_as_the_cause(running: Running) -> None:
    async with running() as oban:
        job = await reached(oban, await oban.enqueue(Cleaning.new()), "retryable")
    error = job.errors[0]["error"]
    assert "RuntimeError: while cleaning up" in error
    assert "TimeoutError: the attempt took longer" in error


async def test_a_thread_past_its_timeout_keeps_its_slot_and_what_it_returns_counts(
    running: Running, events: list[Any]
) -> None:
    async with running(queues=ONE, cancel_grace_period=0.05) as oban:
        job = await oban.enqueue(Threaded.new())
        (timeout,) = await told(events, "oban.job.timeout")
        assert (timeout["job"].id, timeout["is_stoppable"]) == (job.id, False)
        waiting = await oban.enqueue(Unlimited.new())
        await asyncio.sleep(0.2)
        assert oban.check_all_queues()[0].running == [job.id]
        assert (await reached(oban, job, "executing")).errors == []
        assert (await reached(oban, waiting, "available")).attempt == 0
        SEEN["release"].set()
        job = await reached(oban, job, "completed")
        await reached(oban, waiting, "completed")
    assert SEEN["cancelled"] is True
    assert job.recorded() == "done after all"
    assert len(named(events, "oban.job.timeout")) == 1
    assert named(events, "oban.producer.stuck") == []


async def test_what_a_thread_hands_to_the_loop_past_its_timeout_does_not_begin(
    running: Running, events: list[Any]
) -> None:
    async with running(queues=ONE, shutdown_grace_period=0) as oban:
        job = await oban.enqueue(Handing.new())
        await told(events, "oban.job.timeout")
        SEEN["release"].set()
        job = await reached(oban, job, "retryable")
        await is_free(oban)
    assert "TimeoutError: the attempt took longer" in job.errors[0]["error"]


async def test_a_thread_that_raises_past_its_timeout_has_timed_out(
    running: Running, events: list[Any]
) -> None:
    async with running(queues=ONE) as oban:
        job = await oban.enqueue(Threaded.new({"fail": True}))
        await told(events, "oban.job.timeout")
        SEEN["release"].set()
        job = await reached(oban, job, "retryable")
        await is_free(oban)
    assert "RuntimeError: late" in job.errors[0]["error"]
    assert "TimeoutError: the attempt took longer" in job.errors[0]["error"]


async def test_a_process_past_its_timeout_is_killed(
    running: Running, tmp_path: Path, events: list[Any]
) -> None:
    file = tmp_path / "runs"
    async with running(queues={"children": 1}) as oban:
        job = await oban.enqueue(Child.new({"do": "wait", "file": str(file)}, timeout=SHORT))
        job = await reached(oban, job, "retryable", deadline=30)
        pid = await pid_in(file)
        await gone(pid)
        after = await oban.enqueue(Child.new({"do": "pid"}))
        after = await reached(oban, after, "completed", deadline=30)
        assert lives(after.recorded())
    assert job.errors[0]["error"] == (
        "TimeoutError: the attempt took longer than its timeout of 0.1 seconds\n"
    )
    assert [each["job"].id for each in named(events, "oban.job.timeout")] == [job.id]


async def test_a_job_that_ends_in_time_is_not_concerned(
    running: Running, events: list[Any]
) -> None:
    async with running() as oban:
        await reached(oban, await oban.enqueue(Quick.new()), "completed")
        slow = await oban.enqueue(Quick.new({"for": 0.2}, timeout=timedelta(minutes=1)))
        assert slow.meta == {"timeout": 60.0}
        await reached(oban, slow, "completed")
    assert named(events, "oban.job.timeout") == []


async def test_a_jobs_own_timeout_stands_in_its_meta_and_wins(running: Running) -> None:
    async with running() as oban:
        slow = await oban.enqueue(Quick.new({"for": 60}, timeout=SHORT, meta={"mine": 1}))
        assert slow.meta == {"mine": 1, "timeout": SHORT}
        slow = await reached(oban, slow, "retryable")
    assert "TimeoutError" in slow.errors[0]["error"]


@pytest.mark.parametrize("value", ["soon", -1, 0, None, True, [], "NaN"])
async def test_a_timeout_in_a_row_that_is_none_is_not_looked_at(
    running: Running, value: Any
) -> None:
    async with running() as oban:
        job = await oban.enqueue(Unlimited.new(meta={"timeout": value, "deadline_at": value}))
        await reached(oban, job, "completed")


async def test_a_job_that_is_cancelled_and_then_times_out_is_cancelled(
    running: Running, events: list[Any]
) -> None:
    async with running(cancel_grace_period=5) as oban:
        job = await oban.enqueue(Endless.new(timeout=0.3))
        await reached(oban, job, "executing")
        assert await oban.cancel_job(job)
        await told(events, "oban.job.timeout")

        async def kept() -> list[Any]:
            found = await oban.get_job(job)
            return found.errors if found else []

        assert "TimeoutError" in (await eventually(kept))[0]["error"]
        await reached(oban, job, "cancelled")


async def test_timeouts_hold_where_a_test_runs_the_job(client: Oban) -> None:
    from oban.testing import drain_queue, process_job

    with pytest.raises(TimeoutError, match="longer than its timeout"):
        await process_job(Endless.new())
    async with asyncio.timeout(10):  # a caller's own is none the wiser
        await client.enqueue(Endless.new())
        counts = await drain_queue(oban=client, with_safety=True)
    assert counts["retryable"] == 1
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


# Deadlines


async def test_a_job_that_is_claimed_after_its_deadline_is_cancelled_and_not_started(
    running: Running, client: Oban, oban_dsn: str, events: list[Any]
) -> None:
    job = await client.enqueue(Unlimited.new(deadline=60))
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute(
            "update oban_jobs set meta = jsonb_set(meta, '{deadline_at}', to_jsonb(now() - "
            "interval '1 second'))"
        )
    async with running(queues=ONE) as oban:
        found = await reached(oban, job, "cancelled")
        assert "ran" not in SEEN
        await is_free(oban)
    (entry,) = found.errors
    deadline = datetime.fromisoformat(found.meta["deadline_at"])
    assert entry["error"] == f"its deadline was {deadline.isoformat()}"
    (late,) = named(events, "oban.job.deadline")
    assert late["job"].id == job.id
    assert job.id not in [each["job"].id for each in named(events, "oban.job.start")]


async def test_a_job_in_time_runs(running: Running) -> None:
    async with running() as oban:
        for deadline in (60, timedelta(hours=1), datetime.now(UTC) + timedelta(minutes=1)):
            job = await oban.enqueue(Unlimited.new(deadline=deadline))
            await reached(oban, job, "completed")


def test_seconds_of_a_deadline_count_from_when_the_job_is_due() -> None:
    due = datetime(2030, 1, 1, tzinfo=UTC)
    job = Unlimited.new(scheduled_at=due, deadline=90)
    assert job.meta == {"deadline_at": "2030-01-01T00:01:30+00:00"}
    exact = Unlimited.new(scheduled_at=due, deadline=due + timedelta(seconds=5))
    assert exact.meta == {"deadline_at": "2030-01-01T00:00:05+00:00"}
    at_once = datetime.fromisoformat(Unlimited.new(deadline=90).meta["deadline_at"])
    assert timedelta(seconds=80) < at_once - datetime.now(UTC) <= timedelta(seconds=90)


def test_the_deadline_of_a_worker_is_that_of_each_of_its_jobs() -> None:
    @job(deadline=60, meta={"kind": "x"})
    def soon_or_never() -> None: ...

    first, second = soon_or_never.new(), soon_or_never.new(schedule_in=600)
    assert first.meta["kind"] == second.meta["kind"] == "x"
    assert first.meta["deadline_at"] < second.meta["deadline_at"]
    assert "deadline_at" not in soon_or_never.options(deadline=None).definition.options["meta"]  # type: ignore[attr-defined]


async def test_a_retry_after_the_deadline_is_not_started(running: Running) -> None:
    @worker(deadline=0.3, max_attempts=3)
    class Failing(Worker):
        async def process(self, job: Job) -> None:
            SEEN["started"].set()
            raise ValueError("no")

        def backoff(self, job: Job) -> float:
            return 0.4

    async with running(stager={"interval": 0.1}) as oban:
        job = await oban.enqueue(Failing.new())
        await soon(SEEN["started"])
        found = await reached(oban, job, "cancelled")
    assert [entry["attempt"] for entry in found.errors] == [1, 2]
    assert "its deadline was" in found.errors[1]["error"]
