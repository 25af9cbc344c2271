"""Acks that cannot be saved at once: a row that somebody has locked, results too large together."""

import asyncio
from typing import Any

import psycopg
import pytest
from tests.running.support import Running, eventually, named, reached, soon

from oban import Job, Record, Snooze, Worker, worker
from oban.engines.reads import JobFilter


class Seen:
    started: asyncio.Event
    release: asyncio.Event


@worker()
class Waiting(Worker):
    async def process(self, job: Job) -> None:
        Seen.started.set()
        await Seen.release.wait()


@worker()
class Quick(Worker):
    async def process(self, job: Job) -> None:
        return


@worker()
class Large(Worker):
    async def process(self, job: Job) -> Record:
        return Record("x" * 7_000_000)


@worker()
class Snoozing(Worker):
    async def process(self, job: Job) -> Snooze:
        return Snooze(3_600)


def renew() -> None:
    Seen.started, Seen.release = asyncio.Event(), asyncio.Event()


async def test_a_locked_row_holds_up_nothing_but_its_own_ack(
    running: Running, oban_dsn: str, events: list[Any]
) -> None:
    renew()
    async with running(queues={"default": 2}) as oban:
        job = await oban.enqueue(Waiting.new())
        await soon(Seen.started)
        async with await psycopg.AsyncConnection.connect(oban_dsn) as owner:
            await owner.execute("select from oban_jobs where id = %s for update", [job.id])
            Seen.release.set()
            for other in await oban.enqueue_many(Quick.new() for _ in range(20)):
                await reached(oban, other, "completed")
            found = await oban.get_job(job)
            assert found is not None
            assert found.state == "executing"
        done = await reached(oban, job, "completed")
    assert done.attempt == 1
    assert not named(events, "oban.producer.stale")
    assert not named(events, "oban.producer.outage")


async def test_a_stop_waits_for_a_locked_row_within_the_grace(
    running: Running, oban_dsn: str, events: list[Any]
) -> None:
    renew()
    async with await psycopg.AsyncConnection.connect(oban_dsn) as owner:
        async with running(shutdown_grace_period=5.0) as oban:
            job = await oban.enqueue(Waiting.new())
            await soon(Seen.started)
            await owner.execute("select from oban_jobs where id = %s for update", [job.id])
            Seen.release.set()
            stopping = asyncio.create_task(oban.stop())
            await asyncio.sleep(0.5)
            assert not stopping.done()
            await owner.rollback()
            await stopping
        rows = await owner.execute("select state, attempt from oban_jobs")
        assert await rows.fetchall() == [("completed", 1)]
        rows = await owner.execute("select from oban_owners")
        assert await rows.fetchall() == []


async def test_results_too_large_for_one_statement_are_saved_in_parts(
    running: Running, events: list[Any]
) -> None:
    async with running() as oban:
        await oban.enqueue_many(Large.new() for _ in range(4))

        async def all_completed() -> bool:
            return len(await oban.list_jobs(JobFilter(states=["completed"]))) == 4

        await eventually(all_completed, 30)
    assert not named(events, "oban.producer.refused")
    assert not named(events, "oban.producer.outage")


async def test_an_ack_that_is_not_json_is_saved_without_its_details(
    running: Running, oban_dsn: str, events: list[Any]
) -> None:
    """Python reads a count of 4,300 digits and cannot write the next one, of 4,301."""
    async with running(queues={}) as oban:
        job = await oban.enqueue(Snoozing.new())
        with psycopg.connect(oban_dsn, autocommit=True) as connection:
            connection.execute(
                "update oban_jobs set meta = "
                "jsonb_build_object('snoozed', cast(repeat('9', 4300) as numeric))"
            )
    async with running() as oban:
        other = await oban.enqueue(Quick.new())
        found = await reached(oban, job, "scheduled")
        await reached(oban, other, "completed")
    assert "refused the details" in found.errors[0]["error"]
    assert named(events, "oban.producer.refused")


async def test_an_outcome_that_the_database_refuses_altogether_runs_no_job_twice(
    running: Running, oban_dsn: str, events: list[Any]
) -> None:
    """Its row stays as it is until somebody has mended what the database has against it."""
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute(
            "create unique index once on oban_jobs (worker) where state = 'completed'"
        )
        async with running(refresher={"interval": 0.1, "max_age": 1}) as oban:
            first = await oban.enqueue(Quick.new())
            await reached(oban, first, "completed")
            second = await oban.enqueue(Quick.new())

            async def given_up() -> bool:
                return len(named(events, "oban.producer.refused")) == 2

            await eventually(given_up)
            assert oban.running_node is not None
            for _ in range(5):
                await oban.running_node.heart.beat()
            starts = [each["job"].id for each in named(events, "oban.job.start")]
            assert starts.count(second.id) == 1
            other = await oban.enqueue(Snoozing.new())
            await reached(oban, other, "scheduled")
            connection.execute("drop index once")
            (producer,) = oban.producers.values()
            producer.turns.refused_until = 0
            producer.wake()
            await oban.enqueue(Snoozing.new())
            await reached(oban, second, "completed")


async def test_a_refused_outcome_is_tried_again_where_nothing_else_happens(
    running: Running, oban_dsn: str, monkeypatch: pytest.MonkeyPatch, events: list[Any]
) -> None:
    monkeypatch.setattr("oban.running.turns.REFUSED_REST", 0.2)
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute(
            "create unique index once on oban_jobs (worker) where state = 'completed'"
        )
        async with running() as oban:
            first = await oban.enqueue(Quick.new())
            await reached(oban, first, "completed")
            second = await oban.enqueue(Quick.new())

            async def given_up() -> bool:
                return len(named(events, "oban.producer.refused")) >= 2

            await eventually(given_up)
            connection.execute("drop index once")
            await reached(oban, second, "completed")
