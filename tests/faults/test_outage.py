"""An outage of some seconds: nothing crashes, and all is back soon after the server is."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from tests.faults.proxy import Proxy
from tests.running.support import reached

from oban import Job, Oban, Worker, worker
from oban.errors import DatabaseError, DatabaseUnavailable


@worker()
class Fine(Worker):
    async def process(self, job: Job) -> None:
        pass


@pytest.fixture
async def proxy(oban_dsn: str) -> AsyncIterator[Proxy]:
    async with Proxy(oban_dsn) as proxy:
        yield proxy


@pytest.mark.slow
async def test_work_and_enqueueing_resume_within_five_seconds_of_its_return(
    proxy: Proxy, client: Oban
) -> None:
    pool = await Oban.create_pool(proxy.dsn(), timeout=0.5)
    async with Oban(pool=pool, name="node", queues={"default": 5}) as oban:
        await reached(client, await oban.enqueue(Fine.new()), "completed")
        proxy.refuse()
        proxy.cut_all()
        ends = time.monotonic() + 9
        while time.monotonic() < ends:
            with pytest.raises(DatabaseError):
                await oban.enqueue(Fine.new())
            await asyncio.sleep(0.2)
        waiting = await client.enqueue(Fine.new())
        proxy.accept()
        returned = time.monotonic()
        await reached(client, waiting, "completed")
        while True:
            try:
                await oban.enqueue(Fine.new())
                break
            except DatabaseUnavailable:
                assert time.monotonic() - returned < 5
        assert time.monotonic() - returned < 5
    await pool.close()
