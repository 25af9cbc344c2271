"""Short jobs are claimed before a slot is free for them, and nothing else is."""

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from tests.running.support import Running, eventually, named, reached

from oban import Job, Oban, Worker, worker
from oban.engines.reads import JobFilter
from oban.running.ahead import PATIENCE, SPAN, WINDOW, Ahead
from oban.running.producer import Producer

QUICK = {"interval": 0.1, "max_age": 1}
LIMIT = 2


@worker()
class Short(Worker):
    async def process(self, job: Job) -> None:
        await asyncio.sleep(0)


@worker()
class Gated(Worker):
    gate: asyncio.Event

    async def process(self, job: Job) -> None:
        await Gated.gate.wait()


@pytest.fixture(autouse=True)
def gate(monkeypatch: pytest.MonkeyPatch) -> None:
    Gated.gate = asyncio.Event()
    # On a slow machine finding a job may take long; then order waits for the next look.
    monkeypatch.setattr("oban.running.turns.LITTERED", 3600)


def producer_of(oban: Oban) -> Producer:
    (producer,) = oban.producers.values()
    return producer


async def holding(client: Oban, oban: Oban, count: int) -> list[Job]:
    """Have so many jobs wait behind those that fill the slots, as if jobs had been short."""
    producer = producer_of(oban)
    producer.slots.ahead.room = lambda limit: count  # type: ignore[method-assign]
    jobs = await client.enqueue_many(Gated.new({"n": n}) for n in range(LIMIT + count))

    async def waiting() -> bool:
        return len(producer.slots.ahead) == count

    await eventually(waiting)
    return jobs


async def states(client: Oban, jobs: list[Job]) -> list[str]:
    found = [await client.get_job(job) for job in jobs]
    return [str(job.state) for job in found if job is not None]


async def test_many_short_jobs_take_few_turns_whatever_the_limit(
    client: Oban, running: Running, events: list[Any]
) -> None:
    jobs = await client.enqueue_many(Short.new() for _ in range(2000))
    async with running(queues={"default": LIMIT}):
        await eventually(lambda: done(client), 20)
    turns = named(events, "oban.producer.get.stop")
    assert len(turns) < len(jobs) / LIMIT / 4
    started = [each["job"].id for each in named(events, "oban.job.start")]
    assert started == [job.id for job in jobs]


async def test_what_goes_back_is_claimed_again_before_what_stands_behind_it(
    client: Oban, running: Running, events: list[Any]
) -> None:
    jobs = await client.enqueue_many(Short.new() for _ in range(1000))
    async with running(queues={"default": LIMIT}) as oban:
        producer = producer_of(oban)
        given_back = 0
        while not await done(client):
            given_back += len(producer.slots.ahead)
            producer.slots.give_back_waiting()
            await asyncio.sleep(0.005)
    assert given_back > 0
    started = [each["job"].id for each in named(events, "oban.job.start")]
    assert started == [job.id for job in jobs]


async def test_one_that_goes_back_and_whose_row_is_locked_keeps_no_other_waiting(
    client: Oban, running: Running, oban_dsn: str
) -> None:
    async with running(queues={"default": LIMIT}) as oban:
        jobs = await holding(client, oban, 1)
        producer = producer_of(oban)
        producer.slots.ahead.room = lambda limit: 0  # type: ignore[method-assign]
        with psycopg.connect(oban_dsn) as locking:
            locking.execute("select from oban_jobs where id = %s for update", [jobs[-1].id])
            producer.slots.give_back_waiting()
            Gated.gate.set()
            await reached(client, await client.enqueue(Short.new()), "completed")
        await reached(client, jobs[-1], "completed")


async def done(client: Oban) -> bool:
    return not await client.list_jobs(JobFilter(states=["available", "executing"], limit=1))


async def test_with_claim_ahead_zero_no_more_is_claimed_than_can_start(
    client: Oban, running: Running, events: list[Any]
) -> None:
    await client.enqueue_many(Short.new() for _ in range(200))
    async with running(queues={"default": {"limit": LIMIT, "claim_ahead": 0}}):

        async def done() -> bool:
            return len(named(events, "oban.job.stop")) == 200

        await eventually(done)
    assert max(each["count"] for each in named(events, "oban.producer.get.stop")) <= LIMIT


async def test_what_waits_is_told_apart_from_what_runs_and_is_no_stray(
    client: Oban, running: Running, monkeypatch: pytest.MonkeyPatch, events: list[Any]
) -> None:
    monkeypatch.setattr("oban.running.ahead.PATIENCE", 60)
    async with running(queues={"default": LIMIT}, refresher=QUICK) as oban:
        jobs = await holding(client, oban, 3)
        assert oban.running_node is not None
        for _ in range(5):
            await oban.running_node.heart.beat()
        assert await states(client, jobs) == ["executing"] * 5
        info = oban.check_queue("default")
        assert info is not None
        assert (info.running, info.meta["waiting_count"]) == ([jobs[0].id, jobs[1].id], 3)
        (told,) = await client.list_queues()
        assert (told.running, told.meta["waiting_count"]) == ([jobs[0].id, jobs[1].id], 3)
        Gated.gate.set()
        for job in jobs:
            assert (await reached(client, job, "completed")).attempt == 1
    assert not named(events, "oban.producer.reconcile")


async def test_what_has_waited_for_too_long_goes_back_uncounted(
    client: Oban, running: Running
) -> None:
    async with running(queues={"default": LIMIT}) as oban:
        producer = producer_of(oban)
        jobs = await holding(client, oban, 3)
        producer.slots.ahead.room = lambda limit: 0  # type: ignore[method-assign]
        back = [await reached(client, job, "available") for job in jobs[LIMIT:]]
        assert [(job.attempt, job.errors) for job in back] == [(0, [])] * 3
        assert await states(client, jobs[:LIMIT]) == ["executing"] * LIMIT
        Gated.gate.set()
        for job in jobs:
            assert (await reached(client, job, "completed")).attempt == 1


async def test_what_waits_behind_slow_jobs_goes_back_even_where_timers_come_early(
    client: Oban, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    on_time = loop.call_later
    early = lambda delay, *call: on_time(delay * 0.99, *call)  # noqa: E731
    monkeypatch.setattr(loop, "call_later", early)
    async with running(queues={"default": LIMIT}) as oban:
        producer = producer_of(oban)
        jobs = await holding(client, oban, 3)
        producer.slots.ahead.room = lambda limit: 0  # type: ignore[method-assign]
        for job in jobs[LIMIT:]:
            await reached(client, job, "available")
        assert producer.slots.look is None
        Gated.gate.set()


@pytest.mark.parametrize(
    "command",
    [
        lambda client: client.pause_queue("default"),
        lambda client: client.scale_queue("default", 1),
        lambda client: client.stop_queue("default"),
    ],
    ids=["pause", "scale", "stop"],
)
async def test_it_goes_back_at_once_when_the_queue_is_commanded(
    client: Oban, running: Running, monkeypatch: pytest.MonkeyPatch, command: Callable[[Oban], Any]
) -> None:
    monkeypatch.setattr("oban.running.ahead.PATIENCE", 60)
    async with running(queues={"default": LIMIT}, refresher=QUICK, shutdown_grace_period=5) as oban:
        producer = producer_of(oban)
        jobs = await holding(client, oban, 3)
        producer.slots.ahead.room = lambda limit: 0  # type: ignore[method-assign]
        await command(client)
        for job in jobs[LIMIT:]:
            assert (await reached(client, job, "available")).attempt == 0
        assert await states(client, jobs[:LIMIT]) == ["executing"] * LIMIT
        Gated.gate.set()
        for job in jobs[:LIMIT]:
            await reached(client, job, "completed")


async def test_at_a_stop_of_the_process_it_goes_back(client: Oban, running: Running) -> None:
    async with running(queues={"default": LIMIT}, shutdown_grace_period=0.5) as oban:
        jobs = await holding(client, oban, 3)
    found = [await client.get_job(job) for job in jobs]
    assert {(str(job.state), job.attempt) for job in found if job} == {("available", 0)}


@pytest.mark.parametrize("how", ["cancelled", "deleted by hand"])
async def test_a_job_that_is_cancelled_or_gone_while_it_waits_never_runs(
    client: Oban,
    running: Running,
    monkeypatch: pytest.MonkeyPatch,
    oban_dsn: str,
    events: list[Any],
    how: str,
) -> None:
    monkeypatch.setattr("oban.running.ahead.PATIENCE", 60)
    async with running(queues={"default": LIMIT}, refresher=QUICK) as oban:
        producer = producer_of(oban)
        jobs = await holding(client, oban, 2)
        victim = jobs[-1]
        if how == "cancelled":
            assert await client.cancel_job(victim)
        else:
            with psycopg.connect(oban_dsn, autocommit=True) as connection:
                connection.execute("delete from oban_jobs where id = %s", [victim.id])

        async def left() -> bool:
            return len(producer.slots.ahead) == 1

        await eventually(left)
        Gated.gate.set()
        await reached(client, jobs[-2], "completed")
        if how == "cancelled":
            # Its attempt is over: it can be retried.
            async def over() -> bool:
                return await client.retry_job(victim)

            await eventually(over)
            await reached(client, victim, "completed")
    starts = [each["job"].id for each in named(events, "oban.job.start")]
    assert starts.count(victim.id) == (how == "cancelled")


@pytest.mark.parametrize("delicate", [{"max_attempts": 1}, {"meta": {"crashes": 1}}])
async def test_a_job_that_a_death_would_cost_too_much_is_not_kept_waiting(
    client: Oban, running: Running, delicate: dict[str, Any]
) -> None:
    async with running(queues={"default": {"limit": LIMIT, "paused": True}}) as oban:
        producer = producer_of(oban)
        plain = [Gated.new() for _ in range(LIMIT + 1)]
        jobs = await client.enqueue_many(plain, Gated.new(**delicate), Gated.new())
        producer.pause(False)
        producer.slots.ahead.rate = 1_000_000
        producer.slots.ahead.since = float("inf")  # it stays like this

        async def settled() -> bool:
            return await states(client, jobs) == ["executing"] * 3 + ["available"] * 2

        await eventually(settled)
        assert producer.slots.ahead.keys() == [(jobs[LIMIT].id, 1)]
        assert producer.slots.demand() == 0
        Gated.gate.set()
        for job in jobs:
            assert (await reached(client, job, "completed")).attempt == 1


# How many


def ahead(rate: float = 0.0, most: int | str = "auto") -> Ahead:
    made = Ahead(most)  # type: ignore[arg-type]
    made.rate = rate
    return made


def test_so_many_wait_as_start_within_the_window() -> None:
    assert ahead(1000).room(10) == 1000 * WINDOW
    assert ahead(1_000_000).room(10) == 500
    assert ahead(1_000_000, 7).room(10) == 7
    assert ahead(1_000_000, 0).room(10) == 0


def test_none_waits_where_jobs_are_slow_or_order_is_strict() -> None:
    assert ahead(0.9 / WINDOW).room(100) == 0
    assert ahead(1_000_000).room(1) == 0


def test_the_rate_follows_what_has_ended() -> None:
    measured = ahead()
    measured.measure(10.0)
    for step in range(1, 20):
        measured.ended_count += 50
        measured.measure(10.0 + step * 0.01)
    assert measured.rate == pytest.approx(5000, rel=0.01)
    measured.measure(10.19 + SPAN / 2)  # too soon to tell
    assert measured.rate == pytest.approx(5000, rel=0.01)
    for step in range(1, 20):
        measured.measure(11 + step * 0.01)
    assert measured.room(10) == 0


def test_what_waits_is_overdue_after_its_patience() -> None:
    made = ahead()
    assert not made.is_overdue(100)
    made.waiting.append((Job(worker="w"), 1.0))
    assert not made.is_overdue(1.0 + PATIENCE / 2)
    assert made.is_overdue(1.0 + PATIENCE * 2)
    assert [job.worker for job in made.take_all()] == ["w"]
    assert not made.waiting
