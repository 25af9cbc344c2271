"""The stager: what is due becomes available, and no later look than it says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from tests.running.support import named

from oban import Job, JobState
from oban.engines.postgres import PostgresEngine
from oban.engines.runs import Head
from oban.options import StagerOptions
from oban.running.stager import SHORTEST, Stager

Making = Callable[..., Stager]


@pytest.fixture
async def make(engine: PostgresEngine) -> AsyncIterator[Making]:
    """Make a stager of two queues; what it finds stands in its `heads`."""
    session = engine.session("oban test stager")

    def make(**options: Any) -> Stager:
        heads: list[tuple[str, Head]] = []

        def hear(queue: str, head: Head) -> None:
            heads.append((queue, head))

        stager = Stager(engine, session, StagerOptions(**options), lambda: ["alpha", "beta"], hear)
        stager.heads = heads  # type: ignore[attr-defined]
        return stager

    yield make
    await session.close()


def woken(stager: Stager) -> list[str]:
    return sorted(queue for queue, _ in stager.heads)  # type: ignore[attr-defined]


async def insert(engine: PostgresEngine, *jobs: Job) -> list[Job]:
    return await engine.execute(engine.insert(jobs, notify=False))


async def states(engine: PostgresEngine, jobs: list[Job]) -> list[str]:
    ids = [job.id for job in jobs if job.id is not None]
    return [str(job.state) for job in await engine.execute(engine.get(ids))]


def due_in(seconds: float, queue: str = "alpha") -> Job:
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    return Job(worker="W", queue=queue, scheduled_at=moment)


def hurry(dsn: str, seconds: int) -> None:
    """Let that much time pass for what is scheduled."""
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "update oban_jobs set scheduled_at = scheduled_at - make_interval(secs => %s)",
            [seconds],
        )


async def test_with_nothing_to_do_it_rests_one_interval(make: Making) -> None:
    stager = make(interval=2.5)
    assert await stager.tick() == 2.5
    assert woken(stager) == []


async def test_what_is_due_becomes_available_and_its_queue_is_woken(
    make: Making, engine: PostgresEngine, oban_dsn: str, events: list[Any]
) -> None:
    jobs = await insert(engine, due_in(60), due_in(60, "elsewhere"), due_in(3600, "beta"))
    hurry(oban_dsn, 61)
    stager = make()
    await stager.tick()
    assert await states(engine, jobs) == ["available", "available", "scheduled"]
    assert woken(stager) == ["alpha"]
    (told,) = named(events, "oban.stager.stage.stop")
    assert (told["staged_count"], told["available_queues"]) == (2, ["alpha"])


async def test_it_finds_where_each_queue_begins(
    make: Making, engine: PostgresEngine, oban_dsn: str
) -> None:
    plain, urgent = Job(worker="W", queue="alpha", priority=3), Job(worker="W", queue="alpha")
    _, first = await insert(engine, plain, urgent)
    due = await insert(engine, due_in(60, "beta"))
    hurry(oban_dsn, 61)
    stager = make()
    await stager.tick()
    heads = dict(stager.heads)  # type: ignore[attr-defined]
    assert {queue: head.place.id for queue, head in heads.items()} == {
        "alpha": first.id,
        "beta": due[0].id,
    }
    for head in heads.values():
        assert 0 <= head.sought_for < 1
        (found,) = await engine.execute(engine.get([head.place.id]))
        assert head.place.priority == found.priority
        assert found.scheduled_at is not None
        assert datetime.fromisoformat(head.place.scheduled_at) == found.scheduled_at.replace(
            tzinfo=None
        )


async def test_a_retryable_job_becomes_available_and_a_suspended_one_does_not(
    make: Making, engine: PostgresEngine, oban_dsn: str
) -> None:
    jobs = await insert(engine, due_in(60), Job(worker="W", state=JobState.SUSPENDED))
    with psycopg.connect(oban_dsn) as connection:
        connection.execute("update oban_jobs set state = 'retryable' where state = 'scheduled'")
    hurry(oban_dsn, 61)
    await make().tick()
    assert await states(engine, jobs) == ["available", "suspended"]


async def test_a_queue_whose_notification_was_lost_is_woken(
    make: Making, engine: PostgresEngine
) -> None:
    await insert(engine, Job(worker="W", queue="beta"), Job(worker="W", queue="elsewhere"))
    stager = make()
    await stager.tick()
    assert woken(stager) == ["beta"]


async def test_what_has_no_attempt_left_is_discarded_and_told(
    make: Making, engine: PostgresEngine, oban_dsn: str, events: list[Any]
) -> None:
    jobs = await insert(engine, *(Job(worker="W", queue=q) for q in ("alpha", "elsewhere")))
    with psycopg.connect(oban_dsn) as connection:
        connection.execute("update oban_jobs set attempt = max_attempts")
    stager = make()
    await stager.tick()
    assert await states(engine, jobs) == ["discarded", "available"]
    assert woken(stager) == []
    assert named(events, "oban.stager.stage.stop")[0]["discarded_count"] == 1


async def test_it_looks_again_when_the_next_job_is_due(
    make: Making, engine: PostgresEngine
) -> None:
    await insert(engine, due_in(30), due_in(3600))
    assert 10 < await make(interval=60).tick() <= 30


async def test_it_looks_again_after_an_interval_whatever_is_due_later(
    make: Making, engine: PostgresEngine
) -> None:
    await insert(engine, due_in(3600))
    assert await make(interval=1.5).tick() == 1.5


async def test_it_goes_on_at_once_while_there_is_more(
    make: Making, engine: PostgresEngine, oban_dsn: str
) -> None:
    jobs = await insert(engine, *(due_in(60) for _ in range(5)))
    hurry(oban_dsn, 61)
    stager = make(limit=2)
    rests = [await stager.tick() for _ in range(3)]
    assert rests[:2] == [0.0, 0.0]
    assert rests[2] > 0
    assert await states(engine, jobs) == ["available"] * 5


async def test_a_job_that_is_due_sooner_is_looked_for_then(make: Making) -> None:
    stager = make(interval=3600)
    await stager.tick()
    clock = asyncio.get_running_loop().time
    heard = clock()
    stager.hear_due(stager.planned_at - 3600 + 0.2)
    await asyncio.wait_for(stager.alarm.rest(3600), 10)
    assert 0.1 <= clock() - heard < 5


async def test_a_job_that_is_due_later_changes_nothing(make: Making) -> None:
    stager = make(interval=60)
    await stager.tick()
    before = (stager.planned, stager.planned_at)
    stager.hear_due(stager.planned_at + 1)
    assert (stager.planned, stager.planned_at) == before
    assert not stager.alarm.woken.is_set()


async def test_of_many_that_are_due_sooner_the_soonest_counts(make: Making) -> None:
    stager = make(interval=3600)
    await stager.tick()
    now = stager.planned_at - 3600
    for seconds in (50, 0.1, 70):
        stager.hear_due(now + seconds)
    assert stager.planned_at == now + 0.1
    await asyncio.wait_for(stager.alarm.rest(3600), 10)


async def test_a_job_of_this_process_that_runs_again_soon_moves_the_look(make: Making) -> None:
    stager = make(interval=3600)
    await stager.tick()
    stager.hear_due_in(0.2)
    assert stager.planned - asyncio.get_running_loop().time() == pytest.approx(0.2, abs=0.05)
    planned = stager.planned
    stager.hear_due_in(60)
    assert stager.planned == planned
    stager.hear_due_in(0)  # not sooner than it may look again
    assert stager.planned == pytest.approx(max(stager.looked + SHORTEST, planned - 0.2), abs=0.05)
    async with asyncio.timeout(1):
        await stager.alarm.woken.wait()


async def test_what_is_heard_while_it_looks_makes_it_look_once_more(make: Making) -> None:
    stager = make()
    stager.hear_due(17.0)  # before the first look has ended
    assert stager.alarm.woken.is_set()


async def test_two_of_them_share_the_work(
    make: Making, engine: PostgresEngine, oban_dsn: str, events: list[Any]
) -> None:
    jobs = await insert(engine, *(due_in(60) for _ in range(500)))
    hurry(oban_dsn, 61)
    session = engine.session("oban test stager 2")
    other = Stager(engine, session, StagerOptions(), list, lambda queue, head: None)
    await asyncio.gather(make().tick(), other.tick())
    await session.close()
    staged = [each["staged_count"] for each in named(events, "oban.stager.stage.stop")]
    assert sum(staged) == 500
    assert set(await states(engine, jobs)) == {"available"}
