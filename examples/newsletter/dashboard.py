"""The dashboard beside the demo, on its event loop, at a port that is free."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

import uvicorn

import oban.web
from oban import Oban


@asynccontextmanager
async def dashboard(instance: Oban) -> AsyncIterator[str]:
    """Its address, as long as the body of the `with` runs."""
    config = uvicorn.Config(
        oban.web.app(instance), host="127.0.0.1", port=0, log_level="warning", lifespan="off"
    )
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext  # type: ignore[assignment, method-assign]  # the demo's own
    serving = asyncio.create_task(server.serve())
    while not server.started:
        if serving.done():
            await serving
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = server.force_exit = True
        await serving
