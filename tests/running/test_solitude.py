"""Jobs that may have killed their process run alone in the next."""

import asyncio
from typing import Any

import psycopg
import pytest
from tests.running.support import Running, eventually, reached

from oban import Job, Oban, Worker, worker

SPANS: list[tuple[int, float, float]] = []


@worker()
class Timed(Worker):
    async def process(self, job: Job) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(job.args.get("seconds", 0.05))
        assert job.id is not None
        SPANS.append((job.id, began, loop.time()))


@worker()
class Gated(Worker):
    gate: asyncio.Event

    async def process(self, job: Job) -> None:
        await Gated.gate.wait()


SUSPECT: dict[str, Any] = {"meta": {"crashes": 2}}


@pytest.fixture(autouse=True)
def fresh() -> None:
    SPANS.clear()
    Gated.gate = asyncio.Event()


def overlapping(identity: int) -> list[int]:
    ((_, began, ended),) = [span for span in SPANS if span[0] == identity]
    return [each for each, b, e in SPANS if each != identity and b < ended and began < e]


async def test_a_suspect_runs_beside_nothing_else_of_any_queue(
    client: Oban, running: Running
) -> None:
    suspects = [await client.enqueue(Timed.new(**SUSPECT, queue=queue)) for queue in "ab"]
    others = [Timed.new({"seconds": 0.02}, queue="ab"[n % 2]) for n in range(40)]
    enqueued = await client.enqueue_many(others)
    async with running(queues={"a": 5, "b": 5}):
        for job in (*suspects, *enqueued):
            await reached(client, job, "completed")
    assert [overlapping(job.id or 0) for job in suspects] == [[], []]


async def test_one_crash_makes_no_suspect(client: Oban, running: Running) -> None:
    async with running() as oban:
        gated = await client.enqueue(Gated.new())
        await reached(client, gated, "executing")
        job = await client.enqueue(Timed.new(meta={"crashes": 1}))
        await reached(client, job, "completed")
        assert oban.check_all_queues()[0].running == [gated.id]
        Gated.gate.set()


async def waiting_suspect(client: Oban, oban: Oban) -> Job:
    """A suspect that waits for a job which does not end."""
    gated = await client.enqueue(Gated.new())
    await reached(client, gated, "executing")
    job = await client.enqueue(Timed.new(**SUSPECT))

    async def waits() -> bool:
        return [run.began for run in oban.producers["default"].slots.runs.values()] == [True, False]

    await eventually(waits)
    assert oban.producers["default"].pulse().meta["running"] == [gated.id]
    return job


async def test_one_that_waits_too_long_is_put_off_and_the_others_go_on(
    client: Oban, running: Running
) -> None:
    async with running() as oban:
        oban.producers["default"].slots.solitude.patience = 0.2
        job = await waiting_suspect(client, oban)
        put_off = await reached(client, job, "scheduled")
        assert (put_off.attempt, put_off.meta) == (0, {"crashes": 2, "postponed": 1})
        await reached(client, await client.enqueue(Timed.new()), "completed")
        Gated.gate.set()


async def test_after_ten_times_it_runs_in_company(client: Oban, running: Running) -> None:
    async with running():
        gated = await client.enqueue(Gated.new())
        await reached(client, gated, "executing")
        job = await client.enqueue(Timed.new(meta={"crashes": 2, "postponed": 10}))
        await reached(client, job, "completed")
        Gated.gate.set()


async def test_one_that_waits_can_be_cancelled(client: Oban, running: Running) -> None:
    async with running(cancel_grace_period=0) as oban:
        job = await waiting_suspect(client, oban)
        await client.cancel_job(job)

        async def ended() -> bool:
            return len(oban.producers["default"].slots.runs) == 1

        await eventually(ended)
        Gated.gate.set()
    assert (await reached(client, job, "cancelled")).attempt == 1


async def test_a_stop_gives_one_that_waits_back(
    client: Oban, running: Running, oban_dsn: str
) -> None:
    async with running(shutdown_grace_period=0.3) as oban:
        job = await waiting_suspect(client, oban)
    back = await reached(client, job, "available")
    assert (back.attempt, back.meta) == (0, {"crashes": 2})
    with psycopg.connect(oban_dsn) as connection:
        row = connection.execute("select count(*) from oban_jobs where state = 'executing'")
        assert row.fetchone() == (0,)
