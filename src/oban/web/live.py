"""Pages that look again by themselves: the server says when, and a page asks for its parts."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from sse_starlette.sse import EventSourceResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from oban.web.dashboard import Dashboard, dashboard_of
from oban.web.server import CLOSING

#: Seconds between two looks, at least and at most.
LEAST: Final = 0.5
MOST: Final = 3_600.0
USUAL: Final = 2.0
#: Pages that one dashboard tells when to look; those beyond ask by themselves.
MOST_LISTENERS: Final = 200


class Ticks(EventSourceResponse):
    """Counts who listens, for as long as it is answered."""

    def __init__(self, dashboard: Dashboard, interval: float, closing: asyncio.Event) -> None:
        super().__init__(ticks(interval, closing), ping=15)
        self.dashboard = dashboard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.dashboard.listener_count += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.dashboard.listener_count -= 1


async def live(request: Request) -> Response:
    """Server-sent events, one every so many seconds, as long as somebody listens."""
    dashboard = dashboard_of(request)
    if dashboard.listener_count >= MOST_LISTENERS:
        raise HTTPException(
            503, f"{MOST_LISTENERS} pages listen already: this one asks again by itself"
        )
    closing: asyncio.Event = request.scope.get(CLOSING) or asyncio.Event()
    return Ticks(dashboard, interval_of(request.query_params.get("every", "")), closing)


async def ticks(interval: float, closing: asyncio.Event) -> AsyncIterator[dict[str, str]]:
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(interval):
                await closing.wait()
            return
        yield {"event": "look", "data": ""}


def interval_of(text: str) -> float:
    """Seconds, within bounds: a loop that is to sleep for NaN does not sleep at all."""
    try:
        every = float(text)
    except ValueError:
        every = math.nan
    return min(max(every, LEAST), MOST) if math.isfinite(every) else USUAL
