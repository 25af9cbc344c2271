"""Statements, round trips and commits: none of them grows with the number of jobs."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool
from tests.plans.wire import Wire, tapped
from tests.roads import direct
from tests.running.support import eventually, named

from oban import Job, Oban, Worker, worker
from oban.bell import WINDOW
from oban.engines.postgres.connections.session import SETTINGS

QUEUES = ("alpha", "beta", "gamma", "delta", "epsilon")


@worker()
class Noop(Worker):
    async def process(self, job: Job) -> None:
        pass


def jobs(count: int, **options: Any) -> list[Job]:
    return [Noop.new(queue=QUEUES[n % len(QUEUES)], **options) for n in range(count)]


@pytest.fixture
async def wire(oban_dsn: str) -> AsyncIterator[Wire]:
    async with tapped(oban_dsn) as wire:
        yield wire


@pytest.fixture
async def tapped_client(wire: Wire) -> AsyncIterator[Oban]:
    async with await Oban.create_pool(wire.dsn) as pool, Oban(pool=pool) as client:
        await client.get_job(1)
        wire.take()
        yield client


async def test_enqueueing_one_is_one_round_trip(tapped_client: Oban, wire: Wire) -> None:
    for _ in range(20):  # from the first to those that are prepared
        await tapped_client.enqueue(Noop.new())
        sent = Counter(wire.take())
        assert sent.pop("insert_job") == 1
        # What was inserted right after another is told of in between.
        assert sent.keys() <= {"ring", "select pg_backend_pid()"}


async def test_of_many_inserts_in_a_row_the_nodes_are_told_every_few_milliseconds(
    tapped_client: Oban, wire: Wire
) -> None:
    began = time.monotonic()
    for _ in range(100):
        await tapped_client.enqueue(Noop.new())
    took = time.monotonic() - began
    await tapped_client.bell.flush()
    rings = Counter(wire.take())["ring"]
    assert 1 <= rings <= took / WINDOW + 2


async def test_enqueueing_one_is_one_round_trip_on_a_pool_that_does_not_commit_by_itself(
    wire: Wire,
) -> None:
    async with AsyncConnectionPool(wire.dsn, kwargs={"autocommit": False}) as pool:
        client = await Oban(pool=pool, name="borrowing").start()
        wire.take()
        job = await client.enqueue(Noop.new())
        assert wire.take() == ["insert_job"]
        await client.stop()
    async with Oban(pool=wire.dsn) as reader:
        assert await reader.get_job(job)


async def test_enqueueing_one_from_sync_code_is_one_round_trip(
    tapped_client: Oban, wire: Wire
) -> None:
    await asyncio.to_thread(tapped_client.enqueue_sync, Noop.new())
    assert wire.take() == ["insert_job"]


async def test_enqueueing_in_a_transaction_adds_one_round_trip_to_it(
    tapped_client: Oban, wire: Wire
) -> None:
    async with await psycopg.AsyncConnection.connect(wire.dsn) as connection:
        await tapped_client.enqueue_many(jobs(100), conn=connection)
    assert wire.take() == ["begin", "insert_jobs", "commit"]


async def test_five_thousand_jobs_are_one_statement_and_one_commit(
    tapped_client: Oban, wire: Wire
) -> None:
    assert len(await tapped_client.enqueue_many(jobs(5000))) == 5000
    assert wire.take() == ["insert_jobs"]


async def test_more_jobs_than_one_statement_takes_are_still_one_commit(
    tapped_client: Oban, wire: Wire
) -> None:
    await tapped_client.enqueue_many(jobs(10_001))
    assert wire.take() == ["begin", "insert_jobs", "insert_jobs", "commit"]


async def test_managing_many_jobs_is_one_statement(tapped_client: Oban, wire: Wire) -> None:
    made = await tapped_client.enqueue_many(jobs(1000))
    wire.take()
    assert await tapped_client.cancel_many_jobs(made) == 1000
    assert await tapped_client.retry_many_jobs(made) == 1000
    assert await tapped_client.delete_many_jobs(made) == 1000
    assert wire.take() == ["cancel_jobs", "retry_jobs", "delete_jobs"]


async def test_updating_many_jobs_is_a_reading_and_a_writing_in_one_transaction(
    tapped_client: Oban, wire: Wire
) -> None:
    made = await tapped_client.enqueue_many(jobs(1000))
    wire.take()
    assert len(await tapped_client.update_many_jobs(made, {"priority": 3})) == 1000
    assert wire.take() == ["begin", "lock_jobs", "update_jobs", "commit"]


async def test_each_statement_notifies_once_for_each_of_its_queues(
    tapped_client: Oban, oban_dsn: str
) -> None:
    async with await psycopg.AsyncConnection.connect(
        direct(oban_dsn), autocommit=True
    ) as connection:
        await connection.execute('listen "public.oban_insert"')
        made = await tapped_client.enqueue_many(jobs(5000))
        await tapped_client.cancel_many_jobs(made)
        await tapped_client.retry_many_jobs(made)
        await connection.execute("select pg_notify('public.oban_insert', 'the end')")
        heard: list[str] = []
        async for notification in connection.notifies(timeout=10):
            heard.append(notification.payload)
            if notification.payload == "the end":
                break
    inserted, retried = heard[:5], heard[5:-1]
    assert sorted(inserted) == sorted(f'{{"queue" : "{queue}"}}' for queue in QUEUES)
    assert sorted(retried) == sorted(inserted)


async def test_notifications_are_asked_for_by_queue_and_not_by_job(
    tapped_client: Oban, oban_dsn: str
) -> None:
    """PostgreSQL folds equal notifications of a transaction, so those heard do not show it."""
    engine = tapped_client.engine
    step = next(engine.insert(jobs(1000)).steps())  # type: ignore[attr-defined]
    async with await psycopg.AsyncConnection.connect(oban_dsn) as connection:
        cursor = psycopg.AsyncRawCursor(connection)
        await cursor.execute(step.sql.numbered, step.values)
        assert {row[-1] for row in await cursor.fetchall()} == {len(QUEUES)}


@pytest.mark.hears("who hears nothing looks more often")
@pytest.mark.parametrize(("limit", "jobs_per_turn"), [(100, 80), (10, 40)])
async def test_draining_takes_a_turn_for_many_jobs(
    tapped_client: Oban, wire: Wire, events: list[Any], limit: int, jobs_per_turn: int
) -> None:
    """A turn claims what will start in a moment, whatever the limit, and saves what ended."""
    await tapped_client.enqueue_many([Noop.new() for _ in range(2000)])
    wire.take()

    async def all_saved() -> bool:
        acks = named(events, "oban.producer.ack.stop")
        # What was claimed ahead and went back, on a busy machine, is acknowledged as well.
        return sum(int(ack["count"]) for ack in acks) >= 2000

    sent: Counter[str] = Counter()

    async def no_turn_under_way() -> bool:
        sent.update(wire.take())
        return sent["turn"] == len(named(events, "oban.producer.get.stop"))

    # Metrics go by the clock alone: see `test_what_metrics_send_does_not_depend_on_the_jobs`.
    async with Oban(pool=wire.dsn, name="draining", queues={"default": limit}, metrics=False):
        await eventually(all_saved)
        await eventually(no_turn_under_way)
    assert sent.pop("turn") <= 2000 / jobs_per_turn
    # What remains was sent to start, or goes by the clock.
    assert sent.pop("stage_jobs") + sent.pop("beat") + sent.pop("discard plans", 0) <= 12
    assert sent == {
        "select pg_backend_pid()": 2,
        SETTINGS.decode(): 1,
        "open_limits": 1,
        "server_facts": 1,
        "schema_version": 1,
        "prune_jobs": 1,
        'listen "public.oban_insert"': 1,
        'listen "public.oban_signal"': 1,
        'listen "public.oban_leader"': 1,
        'listen "public.oban_due"': 1,
        'listen "public.oban_control"': 1,
    }


async def test_what_metrics_send_does_not_depend_on_the_jobs(
    tapped_client: Oban, wire: Wire, events: list[Any]
) -> None:
    """A few statements to begin with, and to say at the end how long 2,000 jobs took."""
    await tapped_client.enqueue_many([Noop.new() for _ in range(2000)])
    wire.take()

    async def all_saved() -> bool:
        return sum(int(ack["count"]) for ack in named(events, "oban.producer.ack.stop")) >= 2000

    async with Oban(pool=wire.dsn, name="draining", queues={"default": 100}):
        await eventually(all_saved)
    sent = Counter(wire.take())
    assert sent["add_times"] == 1
    assert sent["count_finished"] <= 8
    assert sent["look_at_finished"] == sent["count_finished"]


async def test_a_thousand_due_jobs_are_staged_by_one_statement(
    tapped_client: Oban, wire: Wire, oban_dsn: str
) -> None:
    await tapped_client.enqueue_many(jobs(1000, schedule_in=3600))
    with psycopg.connect(oban_dsn) as connection:
        connection.execute("update oban_jobs set scheduled_at = scheduled_at - interval '1 hour'")
    wire.take()
    staged = await tapped_client.engine.execute(tapped_client.engine.stage(QUEUES, 20_000))
    assert staged.staged_count == 1000
    assert staged.available_queues == set(QUEUES)
    assert wire.take() == ["stage_jobs"]


@pytest.mark.slow
async def test_an_idle_node_with_five_queues_commits_at_most_three_times_in_two_seconds(
    wire: Wire,
) -> None:
    sent: list[str] = []

    async def started() -> bool:
        """What starting needs is not counted; a few counts, close together, are the last of it."""
        newest_first = wire.sent[::-1]
        if "count_finished" not in newest_first:
            return False
        return "stage_jobs" in newest_first[: newest_first.index("count_finished")]

    async def six_seconds_of_looks() -> bool:
        sent.extend(wire.take())
        return sent.count("stage_jobs") >= 6

    async with Oban(pool=wire.dsn, queues=dict.fromkeys(QUEUES, 10)):
        await eventually(started)
        wire.take()
        began = time.monotonic()
        await eventually(six_seconds_of_looks, 30)
        took = time.monotonic() - began
    assert "beat" in sent
    assert len(sent) <= 1.5 * took + 1, sent  # the one at the window's edge
