"""Tasks cancelled by nobody who asked Oban: by the job itself, by the host, by the end of all."""

import asyncio
import threading
from typing import Any

import pytest
from tests.running.support import Running, eventually, reached

from oban import Job, Oban, Worker, worker
from oban.errors import InstanceNotFound

SEEN: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def fresh() -> None:
    SEEN.clear()
    SEEN["runs"] = 0
    SEEN["release"] = threading.Event()


@worker(max_attempts=3)
class CancellingItsTask(Worker):
    async def process(self, job: Job) -> None:
        SEEN["runs"] += 1
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)


@worker(max_attempts=3)
class OnAThread(Worker):
    def process(self, job: Job) -> str:
        SEEN["runs"] += 1
        SEEN["release"].wait(20)
        return "done"


def task_of(job: Job) -> "asyncio.Task[Any]":
    (task,) = (each for each in asyncio.all_tasks() if each.get_name() == f"oban job {job.id}")
    return task


async def started() -> None:
    async def look() -> bool:
        return bool(SEEN["runs"])

    await eventually(look)


async def test_a_job_that_cancels_its_own_task_has_failed(
    running: Running, events: list[Any]
) -> None:
    """It must not be taken for the end of the program, and be given back for ever."""
    async with running() as oban:
        job = await reached(oban, await oban.enqueue(CancellingItsTask.new()), "retryable")
        await asyncio.sleep(0.2)
    assert SEEN["runs"] == 1
    assert job.attempt == 1
    assert "CancelledError" in job.errors[0]["error"]
    assert "oban.job.exception" in [name for name, _ in events]


async def test_a_thread_whose_task_somebody_cancels_goes_on_and_its_outcome_counts(
    running: Running,
) -> None:
    async with running() as oban:
        job = await oban.enqueue(OnAThread.new())
        await started()
        for _ in range(3):
            task_of(job).cancel()
            await asyncio.sleep(0.02)
        found = await oban.get_job(job)
        assert found is not None
        assert found.state == "executing"
        SEEN["release"].set()
        done = await reached(oban, job, "completed")
    assert (done.attempt, SEEN["runs"]) == (1, 1)


async def test_at_the_end_of_the_program_the_row_of_a_thread_is_not_given_back(
    oban_dsn: str, client: Oban
) -> None:
    """As `asyncio.run` ends: every task is cancelled at once. The thread's code still runs."""
    host = set(asyncio.all_tasks())
    oban = Oban(pool=oban_dsn, name="ending", queues={"default": 2}, shutdown_grace_period=0.5)
    await oban.start()
    job = await oban.enqueue(OnAThread.new())
    await started()
    ending = asyncio.all_tasks() - host
    for task in ending:
        task.cancel()
    await asyncio.wait(ending, timeout=10)
    found = await client.get_job(job)
    SEEN["release"].set()
    await oban.stop()  # its supervisor's cancellation is not the caller's
    with pytest.raises(InstanceNotFound):
        Oban.get_instance("ending")
    assert found is not None
    assert (found.state, found.attempt) == ("executing", 1)
