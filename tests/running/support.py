"""Waiting for what must come, with a deadline, and workers that many tests share."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from oban import Job, Oban

T = TypeVar("T")

Running = Callable[..., AbstractAsyncContextManager[Oban]]


async def eventually(look: Callable[[], Awaitable[T]], deadline: float = 10.0) -> T:
    """Look again until the answer is truthy. Raises AssertionError with the last answer."""
    ends = time.monotonic() + deadline
    while not (answer := await look()):
        assert time.monotonic() < ends, f"still {answer!r} after {deadline:g} s"
        await asyncio.sleep(0.005)
    return answer


async def reached(oban: Oban, job: Job | int, *states: str, deadline: float = 10.0) -> Job:
    """The job once it is in one of `states`."""

    async def look() -> Job | None:
        found = await oban.get_job(job)
        assert found is not None
        return found if found.state in states else None

    found = await eventually(look, deadline)
    assert found is not None
    return found


async def soon(event: asyncio.Event, deadline: float = 10.0) -> None:
    async with asyncio.timeout(deadline):
        await event.wait()


def named(events: list[tuple[str, Any]], name: str) -> list[Any]:
    return [metadata for event, metadata in events if event == name]
