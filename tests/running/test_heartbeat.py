"""What the heartbeat keeps up, finds out and tells, with every notification lost."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from tests.running.support import Running, eventually, named, reached, soon

from oban import Job, Oban, Worker, instances, worker
from oban.engines.nodes import Report
from oban.errors import ObanError

QUICK = {"interval": 0.1, "max_age": 0.5}


@worker()
class Quick(Worker):
    async def process(self, job: Job) -> None: ...


@worker()
class Blocking(Worker):
    async def process(self, job: Job) -> None:
        time.sleep(job.args["seconds"])  # what this is about


@worker()
class Patient(Worker):
    """Runs until it is asked to stop."""

    async def process(self, job: Job) -> None:
        while not job.cancelled():
            await asyncio.sleep(0.01)


@pytest.fixture
def unheard(server_dsn: str) -> dict[str, Any]:
    """Options of a node that hears no notification: it listens at another database."""
    return {"refresher": QUICK, "listen_dsn": server_dsn}


async def idle(oban: Oban) -> None:
    async def look() -> bool:
        return all(not info.running for info in oban.check_all_queues())

    await eventually(look)


def change(dsn: str, statement: str, *values: object) -> list[Any]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []


@pytest.mark.parametrize(
    "statement",
    [
        "update oban_jobs set state = 'cancelled', cancelled_at = now() where id = %s",
        "delete from oban_jobs where id = %s",
        "update oban_jobs set state = 'available' where id = %s and pg_sleep(0) is not null",
    ],
    ids=["cancelled by others", "deleted", "rescued"],
)
async def test_a_run_that_is_no_longer_ours_is_stopped_within_a_beat(
    client: Oban, running: Running, oban_dsn: str, unheard: dict[str, Any], statement: str
) -> None:
    async with running(**unheard) as oban:
        job = await client.enqueue(Patient.new(max_attempts=1))
        await reached(client, job, "executing")
        change(oban_dsn, "update oban_jobs set attempt = 1 where id = %s", job.id)
        if "available" in statement:
            await client.pause_queue("default")

            async def paused() -> bool:
                return oban.check_all_queues()[0].paused

            await eventually(paused)
        change(oban_dsn, statement, job.id)
        await idle(oban)


async def test_a_job_that_is_cancelled_is_stopped_within_a_beat(
    client: Oban, running: Running, unheard: dict[str, Any]
) -> None:
    async with running(**unheard) as oban:
        job = await client.enqueue(Patient.new())
        await reached(client, job, "executing")
        await client.cancel_job(job)
        await idle(oban)
        assert (await reached(client, job, "cancelled")).attempt == 1


async def test_a_row_that_executes_here_without_a_run_is_given_back(
    client: Oban, running: Running, oban_dsn: str
) -> None:
    async with running(refresher=QUICK) as oban:
        await reached(client, await client.enqueue(Quick.new()), "completed")
        job = await client.enqueue(Quick.new(schedule_in=3600))
        change(
            oban_dsn,
            "update oban_jobs set state = 'executing', attempt = 1, attempted_by = %s, "
            "attempted_at = timezone('UTC', now()) - interval '1 minute' where id = %s",
            ["node", oban.check_all_queues()[0].uuid],
            job.id,
        )
        done = await reached(client, job, "completed")
        assert done.attempt == 1


async def test_a_beat_that_is_heard_during_a_turn_is_not_forgotten(
    running: Running, oban_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(refresher={"interval": 60, "max_age": 200}) as oban:  # no beat but ours
        (producer,) = oban.producers.values()
        stray = await oban.enqueue(Quick.new(schedule_in=3_600))
        change(
            oban_dsn,
            """update oban_jobs set state = 'executing', attempt = 1,
              attempted_at = timezone('UTC', now()), attempted_by = array[%s, %s] where id = %s""",
            producer.identity.node,
            producer.identity.uuid,
            stray.id,
        )
        execute = producer.turns.session.execute
        under_way, heard = asyncio.Event(), asyncio.Event()

        async def execute_once_heard(operation: Any) -> Any:
            under_way.set()
            await heard.wait()
            return await execute(operation)

        monkeypatch.setattr(producer.turns.session, "execute", execute_once_heard)
        await oban.enqueue(Quick.new())
        await soon(under_way)
        producer.hear_beat([], astray=True)
        heard.set()
        await reached(oban, stray, "completed")


async def test_a_loop_that_is_blocked_beats_on_and_its_job_is_named(
    client: Oban, running: Running, oban_dsn: str, events: list[Any]
) -> None:
    async with running(refresher=QUICK) as oban:
        uuid = oban.check_all_queues()[0].uuid
        seen: set[float | None] = set()

        def observe() -> None:
            """From another thread: this loop is the one that is blocked."""
            for _ in range(12):
                report = Report("Oban", "observer", [], 10.0, candidate=None, lease=6.0)
                others = client.engine.execute_sync(client.engine.beat(report)).others
                seen.update(each.beat_at for each in others if each.identity.uuid == uuid)
                time.sleep(0.1)

        job = await client.enqueue(Blocking.new({"seconds": 1.2}))
        await asyncio.to_thread(observe)
        await reached(client, job, "completed")
        assert len(seen) > 6
        assert (await client.get_job(job)).meta == {}  # type: ignore[union-attr]
    told = named(events, "oban.refresher.blocked")
    assert told[0]["job"].id == job.id
    assert told[0]["worker"] == job.worker == f"{__name__}.Blocking"
    assert "time.sleep" in told[0]["traceback"]
    assert told[-1]["seconds"] > told[0]["seconds"]
    assert named(events, "oban.refresher.unblocked")


async def test_a_loop_that_is_wedged_lets_the_beats_end_until_it_is_free(
    client: Oban, running: Running, events: list[Any]
) -> None:
    async with running(refresher={**QUICK, "max_block": 1.0}) as oban:
        job = await client.enqueue(Blocking.new({"seconds": 2.5}))
        await reached(client, job, "completed", deadline=15)
        assert oban.running_node is not None
        await oban.running_node.heart.beat()
        before = len(named(events, "oban.refresher.refresh.stop"))
        await oban.running_node.heart.beat()
        assert len(named(events, "oban.refresher.refresh.stop")) > before
    wedged, *_ = named(events, "oban.refresher.wedged")
    assert (wedged["job"].id, wedged["worker"]) == (job.id, job.worker)
    assert "oban heartbeat" in wedged["traceback"]
    assert named(events, "oban.refresher.late") == []


async def test_no_job_is_stopped_because_a_record_is_missing_and_it_is_written_again(
    client: Oban, running: Running, oban_dsn: str
) -> None:
    async with running(refresher=QUICK) as oban:
        job = await client.enqueue(Patient.new())
        await reached(client, job, "executing")
        change(oban_dsn, "truncate oban_producers")
        change(oban_dsn, "delete from oban_owners")

        async def written() -> bool:
            query = "select count(*) from oban_owners join oban_producers using (uuid)"
            return change(oban_dsn, query) == [(1,)]

        await eventually(written)
        assert oban.running_node is not None
        await oban.running_node.heart.beat()
        assert oban.check_all_queues()[0].running == [job.id]
        await client.cancel_job(job)
        await idle(oban)


async def test_stopping_takes_the_records_away(running: Running, oban_dsn: str) -> None:
    async with running(queues={"a": 1, "b": 1}):
        assert change(oban_dsn, "select count(*) from oban_producers") == [(2,)]
    assert change(oban_dsn, "select count(*) from oban_producers") == [(0,)]
    assert change(oban_dsn, "select count(*) from oban_owners") == [(0,)]


async def test_a_first_beat_that_fails_fails_the_start_and_leaves_nothing_open(
    oban_dsn: str,
) -> None:
    change(oban_dsn, "alter table oban_producers rename to away")
    try:
        oban = Oban(pool=oban_dsn, name="failing", queues={"default": 1})
        with pytest.raises(ObanError, match="oban_producers"):
            await oban.start()
        assert "failing" not in instances.INSTANCES
        await eventually(no_thread)
    finally:
        change(oban_dsn, "alter table away rename to oban_producers")


async def test_starting_and_stopping_leaves_no_thread(running: Running) -> None:
    for _ in range(5):
        async with running():
            assert "oban heartbeat" in threads()
    await eventually(no_thread)


async def no_thread() -> bool:
    return threads() == []


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name == "oban heartbeat"]


LEFT = """
import asyncio, os, sys, threading, time
from oban import Oban

oban = Oban(pool=sys.argv[1], queues={"default": 1}, refresher={"interval": 0.3})
loop = asyncio.new_event_loop()
loop.run_until_complete(oban.start())
beats = [each for each in threading.enumerate() if each.name == "oban heartbeat"]
assert len(beats) == 1, beats
loop.close()
beats[0].join(10)
os._exit(int(beats[0].is_alive()))
"""


def test_a_loop_that_is_closed_under_a_node_ends_its_thread(oban_dsn: str) -> None:
    """As by a program that ran `start` to its end, and never `stop`."""
    subprocess.run([sys.executable, "-c", LEFT, oban_dsn], check=True, timeout=30)


def test_a_loop_that_is_closed_without_a_stop_ends_the_beats(
    oban_dsn: str, events: list[Any]
) -> None:
    oban = Oban(pool=oban_dsn, name="abandoned", queues={"default": 1}, refresher=QUICK)

    async def start() -> Callable[[], object]:
        await oban.start()
        assert oban.supervisor is not None
        return oban.supervisor.cancel

    loop = asyncio.new_event_loop()
    loop.run_until_complete(start())
    pending = asyncio.all_tasks(loop)
    for task in pending:
        task.cancel()
    loop.run_until_complete(asyncio.wait(pending))
    loop.close()
    instances.unregister(oban)
    ends = time.monotonic() + 5
    while threads() and time.monotonic() < ends:
        time.sleep(0.05)
    before = len(named(events, "oban.refresher.refresh.stop"))
    time.sleep(0.5)
    assert len(named(events, "oban.refresher.refresh.stop")) == before


async def test_who_may_be_taken_for_dead_claims_nothing_more(
    client: Oban, running: Running, unheard: dict[str, Any]
) -> None:
    async with running(**unheard) as oban:
        await reached(client, await client.enqueue(Quick.new()), "completed")
        assert oban.running_node is not None
        assert oban.running_node.heart.refresher is not None
        beats = oban.running_node.heart.refresher.session
        execute, answers = beats.execute, asyncio.Event()

        async def unanswered(operation: Any) -> Any:
            if not answers.is_set():
                raise ObanError("no connection is left for the heartbeat")
            return await execute(operation)

        beats.execute = unanswered  # type: ignore[method-assign]
        await eventually(lambda: asyncio.sleep(0, not oban.running_node.heart.is_believed_alive()))  # type: ignore[union-attr]
        job = await client.enqueue(Quick.new())
        for producer in oban.producers.values():
            producer.wake()
        await asyncio.sleep(0.5)
        assert (await client.get_job(job)).state == "available"  # type: ignore[union-attr]
        answers.set()
        await reached(client, job, "completed")
