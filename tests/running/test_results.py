"""Each line of "Results of a run": what a worker does, and what becomes of the job."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.running.support import Running, named, reached

from oban import Cancel, Discard, Job, Oban, Record, Snooze, Worker, worker

RESULTS: dict[str, Any] = {
    "none": None,
    "text": "anything else",
    "false": False,
    "class": Cancel,
    "record": Record({"sent": [1, 2.5, None, True, "ü"]}),
    "snooze": Snooze(60, meta={"because": "later"}),
    "snooze for a timedelta": Snooze(timedelta(minutes=1)),
    "cancel": Cancel("not wanted"),
    "cancel with a value": Cancel({"code": 7}),
    "discard": Discard("hopeless"),
}


@worker(max_attempts=3)
class Returning(Worker):
    async def process(self, job: Job) -> Any:
        return RESULTS[job.args["result"]]


@worker(max_attempts=3)
class Raising(Worker):
    async def process(self, job: Job) -> None:
        raise RuntimeError("it broke: " + job.args.get("text", "so"))


async def run(running: Running, job: Job, *states: str) -> Job:
    async with running() as oban:
        return await reached(oban, await oban.enqueue(job), *states)


@pytest.mark.parametrize("result", ["none", "text", "false", "class"])
async def test_anything_else_completes_the_job(running: Running, result: str) -> None:
    job = await run(running, Returning.new({"result": result}), "completed")
    assert (job.attempt, job.errors, job.meta) == (1, [], {})
    assert job.completed_at is not None
    assert job.attempted_at is not None
    assert job.completed_at >= job.attempted_at


@pytest.mark.smoke
async def test_record_completes_and_keeps_the_value(running: Running) -> None:
    job = await run(running, Returning.new({"result": "record"}), "completed")
    assert job.recorded() == {"sent": [1, 2.5, None, True, "ü"]}
    assert job.meta["recorded"] is True


@pytest.mark.parametrize("result", ["snooze", "snooze for a timedelta"])
async def test_snooze_schedules_without_counting_the_attempt(running: Running, result: str) -> None:
    job = await run(running, Returning.new({"result": result}), "scheduled")
    assert (job.attempt, job.meta["snoozed"], job.errors) == (0, 1, [])
    assert job.scheduled_at is not None
    assert 55 < (job.scheduled_at - datetime.now(UTC)).total_seconds() <= 60
    if result == "snooze":
        assert job.meta["because"] == "later"


async def test_snoozing_twice_counts_the_snoozes(running: Running) -> None:
    async with running() as oban:
        job = await oban.enqueue(Returning.new({"result": "snooze"}, meta={"kept": 1}))
        await reached(oban, job, "scheduled")
        await oban.update_job(job, {"schedule_in": 0})

        async def twice() -> bool:
            found = await oban.get_job(job)
            return found is not None and found.meta.get("snoozed") == 2

        from tests.running.support import eventually

        await eventually(twice)
        found = await oban.get_job(job)
    assert found is not None
    assert (found.attempt, found.meta["kept"]) == (0, 1)


@pytest.mark.parametrize(
    ("result", "reason"), [("cancel", "not wanted"), ("cancel with a value", "{'code': 7}")]
)
async def test_cancel_ends_the_job_with_its_reason(
    running: Running, result: str, reason: str
) -> None:
    job = await run(running, Returning.new({"result": result}), "cancelled")
    assert [entry["error"] for entry in job.errors] == [reason]
    assert job.cancelled_at is not None


async def test_discard_ends_the_job_at_once(running: Running) -> None:
    job = await run(running, Returning.new({"result": "discard"}), "discarded")
    assert (job.attempt, [entry["error"] for entry in job.errors]) == (1, ["hopeless"])
    assert job.discarded_at is not None


@pytest.mark.smoke
async def test_an_exception_makes_the_job_retryable_with_its_traceback(running: Running) -> None:
    job = await run(running, Raising.new(), "retryable")
    (entry,) = job.errors
    assert entry["attempt"] == 1
    assert datetime.fromisoformat(entry["at"]).tzinfo is not None
    assert entry["error"].startswith("Traceback")
    assert "in process" in entry["error"]
    assert "RuntimeError: it broke: so" in entry["error"]
    assert job.scheduled_at is not None
    wait = (job.scheduled_at - datetime.now(UTC)).total_seconds()
    assert 15 < wait < 19  # 15 + 2 ** 1, and up to 10 % more


async def test_the_last_exception_discards_and_keeps_every_error(running: Running) -> None:
    async with running() as oban:
        job = await oban.enqueue(Raising.new(max_attempts=2))
        await reached(oban, job, "retryable")
        await oban.retry_job(job)
        job = await reached(oban, job, "discarded")
    assert [entry["attempt"] for entry in job.errors] == [1, 2]
    assert job.discarded_at is not None


@pytest.mark.parametrize("text", ["a\0b", "half \ud83d of a pair", "x" * 1_000_000])
async def test_an_error_the_database_cannot_hold_is_kept_clean_and_bounded(
    running: Running, text: str
) -> None:
    async with running() as oban:
        FAILURES["text"] = text
        job = await reached(oban, await oban.enqueue(Failing.new()), "retryable")
    error = job.errors[0]["error"]
    assert len(error.encode()) <= 64_000
    assert "\0" not in error
    if len(text) > 64_000:
        assert "cut" in error[-60:]
    else:
        assert "\N{REPLACEMENT CHARACTER}" in error


FAILURES: dict[str, str] = {}


@worker(max_attempts=3)
class Failing(Worker):
    async def process(self, job: Job) -> None:
        raise ValueError(FAILURES["text"])


async def test_a_recorded_value_with_text_the_database_cannot_hold_completes(
    running: Running,
) -> None:
    RESULTS["odd"] = Record("half \ud83d of a pair")
    job = await run(running, Returning.new({"result": "odd"}), "completed")
    assert job.recorded() == "half \N{REPLACEMENT CHARACTER} of a pair"


@worker(max_attempts=3)
class TooMuch(Worker):
    async def process(self, job: Job) -> Record:
        return Record("x" * 1000, limit=100)


async def test_a_record_over_its_limit_is_an_ordinary_failure(running: Running) -> None:
    job = await run(running, TooMuch.new(), "retryable")
    assert "limit is 100" in job.errors[0]["error"]


class Waits:
    given: Any = 30


@worker(max_attempts=3)
class OwnBackoff(Worker):
    async def process(self, job: Job) -> None:
        raise RuntimeError

    def backoff(self, job: Job) -> Any:
        if isinstance(Waits.given, Exception):
            raise Waits.given
        return Waits.given


@worker(max_attempts=3)
class AsyncBackoff(Worker):
    async def process(self, job: Job) -> None:
        raise RuntimeError

    async def backoff(self, job: Job) -> float:
        await asyncio.sleep(0)
        return 40.5 * job.attempt


async def waited(oban: Oban, job: Job) -> float:
    found = await reached(oban, await oban.enqueue(job), "retryable")
    assert found.scheduled_at is not None
    assert found.attempted_at is not None
    return (found.scheduled_at - found.attempted_at).total_seconds()


@pytest.mark.parametrize("given", [30, 30.0, timedelta(seconds=30)])
async def test_a_backoff_of_ones_own_is_used(running: Running, given: Any) -> None:
    Waits.given = given
    async with running() as oban:
        assert 30 <= await waited(oban, OwnBackoff.new()) < 31


async def test_a_backoff_may_be_async(running: Running) -> None:
    async with running() as oban:
        assert 40.5 <= await waited(oban, AsyncBackoff.new()) < 41.5


@pytest.mark.parametrize(
    "given", [None, "soon", -1, float("nan"), float("inf"), 1e300, True, ValueError("no")]
)
async def test_a_backoff_that_cannot_be_used_is_an_event_and_the_default(
    running: Running, given: Any, events: list[Any]
) -> None:
    Waits.given = given
    async with running() as oban:
        assert 17 <= await waited(oban, OwnBackoff.new()) < 20
    assert len(named(events, "oban.job.bad_backoff")) == 1


@worker(max_attempts=3)
class Exiting(Worker):
    async def process(self, job: Job) -> None:
        raise SystemExit(3)


@worker(max_attempts=3)
class ExitingOnAThread(Worker):
    def process(self, job: Job) -> None:
        raise SystemExit(3)


@worker(max_attempts=3)
class Stopping(Worker):
    def process(self, job: Job) -> None:
        raise StopIteration


@worker(max_attempts=3)
class CancellingItself(Worker):
    async def process(self, job: Job) -> None:
        raise asyncio.CancelledError


@pytest.mark.parametrize("kind", [Exiting, ExitingOnAThread, Stopping, CancellingItself])
async def test_no_exception_ends_the_queue(running: Running, kind: Any) -> None:
    async with running() as oban:
        await reached(oban, await oban.enqueue(kind.new()), "retryable")
        await reached(oban, await oban.enqueue(Returning.new({"result": "none"})), "completed")


@worker(max_attempts=3)
class Impatient(Worker):
    """Snoozes, fails, and succeeds, each time for a moment."""

    async def process(self, job: Job) -> Snooze | None:
        if not job.meta:
            return Snooze(0.05)
        if not job.errors:
            raise RuntimeError("once more")
        return None

    def backoff(self, job: Job) -> float:
        return 0.05


@pytest.mark.hears("the job is heard of, and the stager looks once a minute")
async def test_who_wants_to_run_again_in_a_moment_is_not_kept_until_the_next_look(
    running: Running,
) -> None:
    async with running(stager={"interval": 60}) as oban:
        job = await reached(oban, await oban.enqueue(Impatient.new()), "completed", deadline=5)
    assert (job.attempt, job.meta) == (2, {"snoozed": 1})


async def test_the_traceback_that_is_kept_begins_with_the_workers_own_code(
    running: Running,
) -> None:
    job = await run(running, Raising.new(), "retryable")
    text = job.errors[0]["error"]
    assert text.splitlines()[1].strip().startswith(f'File "{__file__}"')
    assert text.count("  File ") == 1
