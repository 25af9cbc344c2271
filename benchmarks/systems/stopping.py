"""Workers that are asked to stop rather than cancelled, to finish as their own command does."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


async def until_cancelled(running: Coroutine[Any, Any, Any], stop: Callable[[], object]) -> None:
    """Await `running`; when cancelled, call `stop` and let it end by itself."""
    task = asyncio.ensure_future(running)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        stop()
        await task
