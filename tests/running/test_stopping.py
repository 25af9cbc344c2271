"""Stopping: claim no more, let jobs finish, give back what is left, uncounted."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from tests.running.support import Running, eventually, reached, soon

from oban import Job, Oban, Worker, worker
from oban.errors import DatabaseUnavailable, NotStarted, ObanError

SEEN: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    SEEN.clear()
    SEEN["started"] = asyncio.Event()
    SEEN["release"] = release = threading.Event()
    yield
    release.set()  # the tests share a loop, which ends when all in it have


@worker()
class Sleeping(Worker):
    async def process(self, job: Job) -> None:
        SEEN["started"].set()
        await asyncio.sleep(job.args["seconds"])


@worker()
class OnAThread(Worker):
    def process(self, job: Job) -> None:
        SEEN["loop"].call_soon_threadsafe(SEEN["started"].set)
        SEEN["release"].wait(20)


@worker()
class Swallowing(Worker):
    async def process(self, job: Job) -> None:
        SEEN["started"].set()
        while not SEEN["release"].is_set():
            try:
                await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                continue


async def stop_with(running: Running, kind: Any, args: dict[str, Any], **options: Any) -> float:
    async with running(**options) as oban:
        SEEN["loop"] = asyncio.get_running_loop()
        SEEN["job"] = await oban.enqueue(kind.new(args))
        await soon(SEEN["started"])
        if "exiting" in SEEN:
            oban.exiting = True
        began = time.monotonic()
    return time.monotonic() - began


async def after(client: Oban) -> Job:
    found = await client.get_job(SEEN["job"])
    assert found is not None
    return found


async def test_a_job_that_ends_within_the_grace_is_completed(
    running: Running, client: Oban
) -> None:
    took = await stop_with(running, Sleeping, {"seconds": 0.3}, shutdown_grace_period=10)
    assert took < 5
    job = await after(client)
    assert (job.state, job.attempt) == ("completed", 1)


@pytest.mark.smoke
async def test_a_longer_job_is_stopped_and_given_back_uncounted(
    running: Running, client: Oban
) -> None:
    took = await stop_with(running, Sleeping, {"seconds": 60}, shutdown_grace_period=0.5)
    assert took < 1.5
    job = await after(client)
    assert (job.state, job.attempt, job.errors) == ("available", 0, [])


@pytest.mark.parametrize("kind", [OnAThread, Swallowing])
async def test_code_that_cannot_be_stopped_is_left_to_the_rescue(
    running: Running, client: Oban, kind: Any
) -> None:
    took = await stop_with(running, kind, {}, shutdown_grace_period=0.5)
    assert took < 1.5
    job = await after(client)
    SEEN["release"].set()
    assert (job.state, job.attempt) == ("executing", 1)


@pytest.mark.parametrize("kind", [OnAThread, Swallowing])
async def test_it_is_given_back_when_the_process_ends_with_it(
    running: Running, client: Oban, kind: Any
) -> None:
    SEEN["exiting"] = True
    await stop_with(running, kind, {}, shutdown_grace_period=0.5)
    job = await after(client)
    SEEN["release"].set()
    assert (job.state, job.attempt) == ("available", 0)


async def test_no_job_is_claimed_while_stopping(running: Running, client: Oban) -> None:
    async with running(shutdown_grace_period=5) as oban:
        SEEN["loop"] = asyncio.get_running_loop()
        await oban.enqueue(Sleeping.new({"seconds": 0.4}))
        await soon(SEEN["started"])
        stopping = asyncio.create_task(oban.stop())
        await asyncio.sleep(0.1)
        late = await client.enqueue(Sleeping.new({"seconds": 0}))
        await stopping
    found = await client.get_job(late)
    assert found is not None
    assert (found.state, found.attempt) == ("available", 0)


async def test_start_and_stop_may_come_from_different_tasks(oban_dsn: str) -> None:
    oban = Oban(pool=oban_dsn, queues={"default": 1})
    await asyncio.create_task(oban.start())
    job = await oban.enqueue(Sleeping.new({"seconds": 0}))
    await reached(oban, job, "completed")
    await asyncio.create_task(oban.stop())
    await oban.stop()


async def test_it_can_be_started_again(oban_dsn: str) -> None:
    oban = Oban(pool=oban_dsn, queues={"default": 1})
    for _ in range(2):
        async with oban:
            job = await oban.enqueue(Sleeping.new({"seconds": 0}))
            await reached(oban, job, "completed")


async def test_tasks_of_the_host_are_not_cancelled(running: Running) -> None:
    host = asyncio.create_task(asyncio.sleep(30))
    async with running():
        pass
    assert not host.done()
    host.cancel()


async def test_nothing_is_left_running_after_stop(running: Running) -> None:
    before = asyncio.all_tasks()
    async with running(queues={"a": 1, "b": 2}):
        assert len(asyncio.all_tasks()) > len(before)
    assert asyncio.all_tasks() == before


async def test_the_producers_record_is_taken_away(running: Running, oban_dsn: str) -> None:
    import psycopg

    async with running(queues={"a": 1, "b": 2}):
        pass
    with psycopg.connect(oban_dsn) as connection:
        assert connection.execute("select count(*) from oban_owners").fetchone() == (0,)
        assert connection.execute("select count(*) from oban_owned_queues").fetchone() == (2,)


async def test_whoever_stops_what_is_stopping_waits_for_its_end(
    running: Running, client: Oban
) -> None:
    """As a signal's handler and `async with` do; the loop may be closed right after either."""
    async with running(shutdown_grace_period=5.0) as oban:
        job = await oban.enqueue(Sleeping.new({"seconds": 0.5}))
        await soon(SEEN["started"])
        first = asyncio.create_task(oban.stop())
        await asyncio.sleep(0.05)
        with pytest.raises(NotStarted):
            await oban.start()
        await oban.stop()
        assert await reached(client, job, "completed", deadline=0)
        await first


async def test_a_stop_whose_caller_is_cancelled_goes_on(running: Running, client: Oban) -> None:
    async with running(shutdown_grace_period=5.0) as oban:
        job = await oban.enqueue(Sleeping.new({"seconds": 0.5}))
        await soon(SEEN["started"])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await oban.stop()
        await oban.stop()
        assert await reached(client, job, "completed", deadline=0)
        await oban.start()
        await reached(client, await oban.enqueue(Sleeping.new({"seconds": 0})), "completed")


async def test_stop_and_cancel_while_a_start_fails() -> None:
    oban = Oban(pool="postgresql://nobody@127.0.0.1:1/nowhere", queues={"default": 1})
    starting = asyncio.create_task(oban.start())
    await asyncio.sleep(0)
    results = await asyncio.gather(starting, oban.stop(), return_exceptions=True)
    assert [type(result) for result in results] == [DatabaseUnavailable, DatabaseUnavailable]

    starting = asyncio.create_task(oban.start())
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting


async def test_a_producer_with_something_still_on_its_way_stays_known_as_ours(
    running: Running, oban_dsn: str
) -> None:
    """A claim may yet be committed, and without the record nobody could rescue its job."""
    queues = {"settled": 1, "unsettled": 1}
    async with running(queues=queues, shutdown_grace_period=0.5) as oban:
        producer = oban.producers["unsettled"]

        async def rests() -> bool:
            return producer.last_turn > 0 and not producer.unsettled

        await eventually(rests)
        producer.turns.unanswered = True

        async def fails(_: object) -> bool:
            raise ObanError("the database does not say")

        producer.turns.settle = fails  # type: ignore[assignment, method-assign]
    with psycopg.connect(oban_dsn) as connection:
        rows = connection.execute("select queue from oban_owners").fetchall()
    assert rows == [("unsettled",)]
