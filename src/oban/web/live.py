"""Pages that look again by themselves: the server says when, and a page asks for its parts."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from sse_starlette.sse import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response

#: Seconds between two looks, at least and at most.
LEAST: Final = 0.5
MOST: Final = 3_600.0


async def live(request: Request) -> Response:
    """Server-sent events, one every so many seconds, as long as somebody listens."""
    try:
        every = float(request.query_params.get("every", "2"))
    except ValueError:
        every = 2.0
    interval = min(max(every, LEAST), MOST)

    async def ticks() -> AsyncIterator[dict[str, str]]:
        while True:
            await asyncio.sleep(interval)
            yield {"event": "look", "data": ""}

    return EventSourceResponse(ticks(), ping=15)
