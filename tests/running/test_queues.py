"""Queues: order, isolation, promptness, and each job exactly once."""

import asyncio
import statistics
import time
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from tests.running.support import Running, eventually, reached

from oban import Job, Oban, Worker, job, worker
from oban.engines.runs import Head, Place
from oban.testing import reset_oban

RAN: list[Any] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    RAN.clear()


@worker()
class Noting(Worker):
    async def process(self, job: Job) -> None:
        RAN.append(job.args["n"])


@worker(queue="threads")
class SleepingOnAThread(Worker):
    def process(self, job: Job) -> None:
        time.sleep(1)


@job(queue="quick")
async def quick() -> None:
    pass


@worker(queue="failing", max_attempts=1)
class Failing(Worker):
    async def process(self, job: Job) -> None:
        raise RuntimeError("always")


async def count(oban: Oban, state: str, queue: str) -> int:
    from oban.engines.reads import JobFilter

    return len(await oban.list_jobs(JobFilter(states=[state], queue=queue, limit=100_000)))


async def all_ran(number: int) -> None:
    async def look() -> bool:
        return len(RAN) >= number

    await eventually(look, 30)


async def test_one_at_a_time_runs_in_priority_time_and_id_order(
    running: Running, client: Oban
) -> None:
    jobs = [
        Noting.new({"n": "third"}, priority=1, schedule_in=-5),
        Noting.new({"n": "fourth"}, priority=1),
        Noting.new({"n": "first"}, schedule_in=-1),
        Noting.new({"n": "second"}),
        Noting.new({"n": "fifth"}, priority=1),
        Noting.new({"n": "last"}, priority=9, schedule_in=-100),
    ]
    await client.enqueue_many(jobs)
    async with running(queues={"default": 1}):
        await all_ran(6)
    assert RAN == ["first", "second", "third", "fourth", "fifth", "last"]


@worker()
class Enqueuing(Worker):
    async def process(self, job: Job) -> None:
        RAN.append("running")
        await Oban.get_instance("client").enqueue(Noting.new({"n": "urgent"}))
        await asyncio.sleep(0.2)  # nodes that know where the queue begins hear of it in a moment


async def test_a_higher_priority_inserted_meanwhile_is_next(
    running: Running, oban_dsn: str
) -> None:
    async with Oban(pool=oban_dsn, name="client") as client:
        await client.enqueue(Enqueuing.new(priority=1))
        await client.enqueue_many(Noting.new({"n": n}, priority=5) for n in range(3))
        async with running(queues={"default": 1}):
            await all_ran(5)
    assert RAN == ["running", "urgent", 0, 1, 2]


@pytest.mark.smoke
async def test_each_job_runs_once_over_several_nodes(running: Running, client: Oban) -> None:
    queues = {"a": 5, "b": 20, "c": 1}
    await client.enqueue_many(Noting.new({"n": n}, queue="abc"[n % 3]) for n in range(900))
    async with (
        running(queues=queues, name="one", node="one"),
        running(queues=queues, name="two", node="two"),
    ):
        await all_ran(900)
        await asyncio.sleep(0.1)
    assert Counter(RAN) == Counter(range(900))
    assert {(each.state, each.attempt) for each in await client.list_jobs(everything())} == {
        ("completed", 1)
    }


def everything() -> Any:
    from oban.engines.reads import JobFilter

    return JobFilter(limit=100_000)


@pytest.mark.slow
async def test_sleeping_threads_share_a_second_and_leave_the_loop_alone(running: Running) -> None:
    async with running(queues={"threads": 10, "quick": 5}, shutdown_grace_period=5) as oban:
        await reached(oban, await oban.enqueue(quick.new()), "completed")
        alone = statistics.median([await quick_latency(oban) for _ in range(10)])
        slow = await oban.enqueue_many(SleepingOnAThread.new() for _ in range(10))
        began = time.monotonic()
        beside = statistics.median([await quick_latency(oban) for _ in range(10)])
        for each in slow:
            await reached(oban, each, "completed")
        took = time.monotonic() - began
    assert took < 2.5
    assert beside < max(3 * alone, 0.1)


async def quick_latency(oban: Oban) -> float:
    done = await reached(oban, await oban.enqueue(quick.new()), "completed")
    return start_delay(done)


def start_delay(job: Job) -> float:
    assert job.attempted_at is not None
    assert job.inserted_at is not None
    return (job.attempted_at - max(job.scheduled_at or job.inserted_at, job.inserted_at)) / (
        timedelta(seconds=1)
    )


@pytest.mark.slow
async def test_a_flood_of_failing_jobs_does_not_delay_another_queue(running: Running) -> None:
    async with running(queues={"failing": 20, "quick": 5}, shutdown_grace_period=5) as oban:
        alone = sorted([await quick_latency(oban) for _ in range(60)])
        await oban.enqueue_stream(Failing.new({"n": n}) for n in range(40_000))
        beside = sorted([await quick_latency(oban) for _ in range(60)])
        assert await count(oban, "available", "failing") > 0, "the flood was over too soon"
        await reset_oban(oban)
    p95 = int(0.95 * 60)
    # The bound is three times or 25 ms; a shared machine gets some slack here, and the
    # figure itself is printed by the benchmark.
    assert beside[p95] <= max(3 * alone[p95], 0.1)


async def test_a_paused_queue_starts_nothing(running: Running) -> None:
    async with running(queues={"default": {"limit": 2, "paused": True}}) as oban:
        enqueued = await oban.enqueue(Noting.new({"n": 1}))
        await asyncio.sleep(0.2)
        found = await oban.get_job(enqueued)
        info = oban.check_queue("default")
    assert found is not None
    assert found.state == "available"
    assert info is not None
    assert (info.paused, info.limit, info.running, info.queue) == (True, 2, [], "default")


async def test_lost_notifications_cost_at_most_one_interval(running: Running, client: Oban) -> None:
    async with running(stager={"interval": 0.3}) as oban:
        await reached(oban, await client.enqueue(Noting.new({"n": 0})), "completed")
        silent = await client.enqueue(Noting.new({"n": 1}), notify=False)
        began = time.monotonic()
        await reached(oban, silent, "completed")
        assert time.monotonic() - began < 1.0


@pytest.mark.slow
async def test_scheduled_jobs_of_another_client_wake_the_stager(
    running: Running, oban_dsn: str
) -> None:
    """It looks by itself only after a minute. How late they start is the benchmark `promptness`."""
    rarely = {"interval": 60}
    async with (
        Oban(pool=oban_dsn, name="client", stager=rarely) as client,
        running(queues={"default": 20}, stager=rarely) as oban,
    ):
        delays = [0.2 + 2.8 * ((n * 37) % 200) / 200 for n in range(200)]
        jobs = [await client.enqueue(Noting.new({"n": 0}, schedule_in=each)) for each in delays]
        done = [await reached(oban, each, "completed") for each in jobs]
    assert min(start_delay(each) for each in done) >= 0


@pytest.mark.hears("the stager hears of the change")
async def test_a_scheduled_job_moved_forward_runs_then(running: Running) -> None:
    async with running() as oban:
        enqueued = await oban.enqueue(Noting.new({"n": 1}, schedule_in=3600))
        assert enqueued.state == "scheduled"
        updated = await oban.update_job(enqueued, {"schedule_in": 0.2})
        assert updated is not None
        assert start_delay(await reached(oban, enqueued, "completed")) < 0.2


async def test_where_the_way_is_littered_claims_begin_behind_the_last_and_miss_nobody_for_long(
    running: Running, client: Oban, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oban.running.turns.LITTERED", -1.0)  # as if finding a job took long
    async with running(queues={"default": {"limit": 1}}) as oban:
        (producer,) = oban.producers.values()
        for n in range(3):
            await reached(oban, await client.enqueue(Noting.new({"n": n}, priority=5)), "completed")
        place = Place(5, "2020-01-01 00:00:00", 0)
        producer.turns.hear_head(Head(place, 1.0))
        last = await client.enqueue(Noting.new({"n": 4}, priority=6))
        await reached(oban, last, "completed")
        assert producer.turns.start is not None
        assert (producer.turns.start.priority, producer.turns.start.id) == (6, last.id)
        # It stands before what claims begin with, and waits for the next look.
        urgent = await client.enqueue(Noting.new({"n": 5}, priority=0), notify=False)
        producer.wake()
        await reached(oban, urgent, "completed", deadline=3.5)


@pytest.mark.hears("the stager looks once an hour")
@pytest.mark.parametrize("known", ["looks come no more", "the way is free"])
async def test_where_a_queue_begins_holds_for_a_moment(
    running: Running, client: Oban, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    monkeypatch.setattr("oban.running.turns.START_AGE", 1.5)
    async with running(queues={"default": 1}, stager={"interval": 3600}) as oban:
        await reached(oban, await client.enqueue(Noting.new({"n": 1})), "completed")
        await asyncio.sleep(0.2)  # the answer of the turn that saved it is heard, too
        (producer,) = oban.producers.values()
        beyond = Place(9, "9999-01-01 00:00:00", 0)
        producer.turns.hear_head(Head(beyond, 1.0))
        job = await client.enqueue(Noting.new({"n": 2}))
        await asyncio.sleep(0.1)
        assert (await client.get_job(job)).state == "available"  # type: ignore[union-attr]
        if known == "the way is free":
            producer.hear_head(Head(beyond, 0.0))
        else:
            await asyncio.sleep(1.5)
            producer.wake()
        await reached(oban, job, "completed")
