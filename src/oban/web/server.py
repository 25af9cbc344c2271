"""A server for the dashboard where the application has none: by itself, or beside what runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from socket import socket
from typing import Final

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from oban.errors import ObanError

#: Seconds that open answers may take once it is to stop.
GRACE: Final = 2
#: Under this key of a request's scope stands an event: answers without an end are to end with it.
CLOSING: Final = "oban.closing"


@asynccontextmanager
async def serving(
    app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0, root_path: str = ""
) -> AsyncIterator[str]:
    """Serve an ASGI application, on this event loop, while the body of the `with` runs.

    Yields its address; port 0 is one that is free. At the end answers that are open may take two
    seconds. Signals are left to the program. Raises `ObanError` when the port cannot be opened,
    or the application does not start.
    """
    closing = asyncio.Event()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, CLOSING: closing}, receive, send)

    server = Server(
        uvicorn.Config(
            answer,
            host=host,
            port=port,
            root_path=root_path,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
        )
    )
    task = asyncio.create_task(server.serve(), name="oban web")
    try:
        while not server.started:
            await asyncio.wait([task], timeout=0.02)
            if task.done():
                task.result()
        bound = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://{f'[{host}]' if ':' in host else host}:{bound}{root_path}"
    finally:
        closing.set()
        server.should_exit = True
        await asyncio.wait([task])


class Server(uvicorn.Server):
    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Leave them to the program: it would end the process by what it has caught."""
        return nullcontext()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            if not self.lifespan.should_exit:
                where = f"port {self.config.port} of {self.config.host}"
                raise ObanError(f"{where} cannot be opened: see above") from None
        if self.lifespan.should_exit:  # of which older versions of uvicorn raise nothing
            raise ObanError("the application to be served did not start: see above")
