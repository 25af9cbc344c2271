"""Cancelling: the row says so at once, the code is asked, then forced, and late acks stay out."""

import asyncio
import threading
import time
from typing import Any

import psycopg
import pytest
from tests.running.support import Running, eventually, named, reached, soon

from oban import Cancel, Hooks, Job, Oban, Worker, worker

STARTED = asyncio.Event
SEEN: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def fresh() -> None:
    SEEN.clear()
    SEEN["started"] = asyncio.Event()
    SEEN["release"] = threading.Event()


def started() -> None:
    SEEN["loop"].call_soon_threadsafe(SEEN["started"].set)


@worker()
class Polite(Worker):
    async def process(self, job: Job) -> Any:
        SEEN["started"].set()
        while not job.cancelled():
            await asyncio.sleep(0.005)
        return Cancel("asked to")


@worker()
class Endless(Worker):
    async def process(self, job: Job) -> None:
        SEEN["started"].set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            SEEN["cancelled"] = True
            raise


@worker()
class Stubborn(Worker):
    async def process(self, job: Job) -> str:
        SEEN["started"].set()
        while not SEEN["release"].is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                SEEN["cancelled"] = SEEN.get("cancelled", 0) + 1
        return "done after all"


@worker()
class Threaded(Worker):
    def process(self, job: Job) -> Any:
        started()
        while not job.cancelled():
            time.sleep(0.005)
        SEEN["release"].wait(10)
        raise RuntimeError("late")


async def cancel_running(oban: Oban, kind: Any) -> Job:
    SEEN["loop"] = asyncio.get_running_loop()
    job = await oban.enqueue(kind.new())
    await soon(SEEN["started"])
    assert await oban.cancel_job(job) is True
    found = await oban.get_job(job)
    assert found is not None
    assert found.state == "cancelled"
    return found


async def settled(oban: Oban, dsn: str, job: Job) -> Job:
    """The job once its code has ended and its row says so."""

    async def ended() -> bool:
        connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
        async with connection:
            rows = await connection.execute(
                "select 1 from oban_jobs where id = %s and stopping_at is null", [job.id]
            )
            return await rows.fetchone() is not None

    await eventually(ended)
    found = await oban.get_job(job)
    assert found is not None
    return found


@pytest.mark.parametrize("state", ["available", "scheduled", "retryable", "suspended"])
async def test_a_waiting_job_is_cancelled(client: Oban, oban_dsn: str, state: str) -> None:
    job = await client.enqueue(Endless.new())
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute("update oban_jobs set state = %s::oban_job_state", [state])
    assert await client.cancel_job(job.id or 0)
    found = await client.get_job(job)
    assert found is not None
    assert (found.state, found.errors) == ("cancelled", [])
    assert found.cancelled_at is not None


@pytest.mark.parametrize("state", ["completed", "cancelled", "discarded"])
async def test_a_finished_job_is_left_alone(client: Oban, oban_dsn: str, state: str) -> None:
    job = await client.enqueue(Endless.new())
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute("update oban_jobs set state = %s::oban_job_state", [state])
    assert not await client.cancel_job(job)
    found = await client.get_job(job)
    assert found is not None
    assert found.state == state


@pytest.mark.smoke
async def test_a_running_job_sees_it_and_its_reason_is_kept(
    running: Running, oban_dsn: str
) -> None:
    async with running() as oban:
        job = await settled(oban, oban_dsn, await cancel_running(oban, Polite))
    assert job.state == "cancelled"
    assert [entry["error"] for entry in job.errors] == ["asked to"]


async def test_after_the_grace_the_task_is_cancelled(running: Running, oban_dsn: str) -> None:
    async with running(cancel_grace_period=0.1) as oban:
        job = await settled(oban, oban_dsn, await cancel_running(oban, Endless))
    assert SEEN["cancelled"]
    assert job.state == "cancelled"
    assert "CancelledError" in job.errors[0]["error"]


async def test_code_that_swallows_cancellation_keeps_its_slot_and_is_reported(
    running: Running, oban_dsn: str, events: list[Any]
) -> None:
    async with running(queues={"default": 1}, cancel_grace_period=0.05) as oban:
        job = await cancel_running(oban, Stubborn)
        waiting = await oban.enqueue(Polite.new())

        async def stuck() -> list[Any]:
            return named(events, "oban.producer.stuck")

        assert (await eventually(stuck))[0]["job"].id == job.id
        assert not await oban.retry_job(job), "its code still runs"
        assert not await oban.delete_job(job), "its code still runs"
        found = await oban.get_job(waiting)
        assert found is not None
        assert found.state == "available"
        SEEN["release"].set()
        job = await settled(oban, oban_dsn, job)
        await reached(oban, waiting, "executing")
        assert await oban.retry_job(job)
    assert job.state == "cancelled"


class Held(Hooks):
    def before_process(self, job: Job) -> None:
        started()
        SEEN["release"].wait(10)


async def test_code_does_not_begin_once_the_grace_was_over_in_a_hook_before_it(
    running: Running, oban_dsn: str, events: list[Any]
) -> None:
    async with running(
        queues={"default": 1}, cancel_grace_period=0.05, hooks=[Held()], shutdown_grace_period=0
    ) as oban:
        job = await cancel_running(oban, Endless)

        async def stuck() -> list[Any]:
            return named(events, "oban.producer.stuck")

        await eventually(stuck)
        SEEN["release"].set()
        job = await settled(oban, oban_dsn, job)
    assert job.state == "cancelled"
    assert "cancelled" not in SEEN


async def test_a_thread_keeps_its_slot_and_its_error_is_kept(
    running: Running, oban_dsn: str, events: list[Any]
) -> None:
    async with running(cancel_grace_period=0.05) as oban:
        job = await cancel_running(oban, Threaded)

        async def stuck() -> list[Any]:
            return named(events, "oban.producer.stuck")

        await eventually(stuck)
        SEEN["release"].set()
        job = await settled(oban, oban_dsn, job)
    assert job.state == "cancelled"
    assert "RuntimeError: late" in job.errors[0]["error"]


async def test_a_cancel_by_another_package_stops_the_run_and_keeps_it_busy(
    running: Running, oban_dsn: str
) -> None:
    """Elixir writes the state and sends pkill; it knows nothing of `stopping_at`."""
    async with running() as oban:
        job = await oban.enqueue(Polite.new())
        await soon(SEEN["started"])
        with psycopg.connect(oban_dsn, autocommit=True) as connection:
            connection.execute(
                "update oban_jobs set state = 'cancelled', cancelled_at = now() where id = %s",
                [job.id],
            )
            connection.execute(
                "select pg_notify('public.oban_signal', %s)",
                [f'{{"action": "pkill", "job_id": {job.id}}}'],
            )

        async def kept() -> list[Any]:
            found = await oban.get_job(job)
            return found.errors if found else []

        assert (await eventually(kept))[0]["error"] == "asked to"


async def test_a_pkill_for_a_job_that_is_still_ours_stops_nothing(
    running: Running, oban_dsn: str
) -> None:
    async with running() as oban:
        job = await oban.enqueue(Polite.new())
        await soon(SEEN["started"])
        with psycopg.connect(oban_dsn, autocommit=True) as connection:
            connection.execute(
                "select pg_notify('public.oban_signal', %s)",
                [f'{{"action": "pkill", "job_id": {job.id}}}'],
            )
        other = await oban.enqueue(Polite.new())
        await reached(oban, other, "executing")
        await asyncio.sleep(0.1)
        found = await oban.get_job(job)
        assert found is not None
        assert found.state == "executing"
        await oban.cancel_many_jobs([job, other])


async def test_a_late_ack_of_an_attempt_that_is_not_ours_changes_nothing(
    running: Running, oban_dsn: str, events: list[Any]
) -> None:
    """As after a rescue: the row runs as another attempt of somebody else."""
    async with running() as oban:
        SEEN["loop"] = asyncio.get_running_loop()
        job = await oban.enqueue(Stubborn.new())
        await soon(SEEN["started"])
        with psycopg.connect(oban_dsn, autocommit=True) as connection:
            connection.execute(
                "update oban_jobs set attempt = 2, attempted_by = array['other', 'uuid']"
            )
        SEEN["release"].set()

        async def stale() -> list[Any]:
            return named(events, "oban.producer.stale")

        assert (await eventually(stale))[0]["job_id"] == job.id
        found = await oban.get_job(job)
    assert found is not None
    assert (found.state, found.attempt, found.errors) == ("executing", 2, [])
