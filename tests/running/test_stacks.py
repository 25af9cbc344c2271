"""Where the code of a running job is, asked from anywhere."""

import asyncio
import threading

import pytest
from tests.running.support import Running, reached

from oban import Job, Oban, worker

release = threading.Event()


async def wait_inside(began: asyncio.Event) -> None:
    began.set()
    await asyncio.sleep(60)


@pytest.mark.hears("the node is asked by a notification")
async def test_the_stack_of_a_coroutine_is_told_down_to_where_it_waits(
    running: Running, client: Oban
) -> None:
    began = asyncio.Event()

    @worker
    class Waiting:
        async def process(self, job: Job) -> None:
            await wait_inside(began)

    async with running(node="n1", shutdown_grace_period=0) as oban:
        job = await oban.enqueue(Waiting.new())  # type: ignore[attr-defined]
        await began.wait()
        told = await client.job_stack(job, patience=10)
        assert told is not None
        assert told.node == "n1"
        assert told.stack.index("in process") < told.stack.index("in wait_inside")
        assert "oban/running" not in told.stack
        again = await client.job_stack(job, patience=10)
        assert again is not None
        assert again.told_at > told.told_at


@pytest.mark.hears("the node is asked by a notification")
async def test_the_stack_of_a_thread_is_told(running: Running, client: Oban) -> None:
    release.clear()

    @worker
    class Blocking:
        def process(self, job: Job) -> None:
            release.wait(30)

    async with running() as oban:
        job = await oban.enqueue(Blocking.new())  # type: ignore[attr-defined]
        await reached(oban, job, "executing")
        told = None
        while told is None or "begun" in told.stack:
            told = await client.job_stack(job, patience=10)
        release.set()
        assert "release.wait(30)" in told.stack
        assert "oban/running" not in told.stack


async def test_nobody_tells_of_a_job_that_does_not_run(running: Running, client: Oban) -> None:
    async with running(queues={"other": 1}) as oban:
        job = await oban.enqueue(Job(worker="app.Worker"))
        assert await client.job_stack(job, patience=0.3) is None
        assert await client.job_stack(10**15, patience=0) is None
