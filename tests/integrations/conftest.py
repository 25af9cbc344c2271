"""A node that runs one queue, and jobs that are awaited by how they ended."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from oban import JobState, Oban, telemetry

Ends = asyncio.Queue[JobState]


@pytest.fixture
def ended() -> Iterator[Ends]:
    """How each attempt ends, told after all that is told to others."""
    states: Ends = asyncio.Queue()
    events = ["oban.job.stop", "oban.job.exception"]

    def note(_: str, metadata: telemetry.Metadata) -> None:
        # In the next step of the loop: whoever was attached later has heard of it by then.
        asyncio.get_running_loop().call_soon(states.put_nowait, metadata["state"])

    telemetry.attach("test-ended", events, note)
    yield states
    telemetry.detach("test-ended")


@pytest.fixture
async def node(oban_dsn: str) -> AsyncIterator[Oban]:
    async with Oban(pool=oban_dsn, queues={"mailers": 5}, stager={"interval": 0.1}) as node:
        yield node


async def next_end(ended: Ends) -> JobState:
    async with asyncio.timeout(20):
        return await ended.get()
