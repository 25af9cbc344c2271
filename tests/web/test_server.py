"""The dashboard served on a running event loop, beside whatever runs there."""

import logging
import signal
import socket

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from oban import Oban
from oban.errors import ObanError
from oban.web import app, serving


async def test_it_answers_as_long_as_the_body_runs_and_leaves_the_signals_alone(
    client: Oban,
) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    async with serving(app(client)) as address, httpx.AsyncClient(base_url=address) as reader:
        assert (await reader.get("/jobs")).status_code == 200
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    async with httpx.AsyncClient(base_url=address) as reader:
        with pytest.raises(httpx.ConnectError):
            await reader.get("/jobs")


async def test_a_page_that_listens_is_let_go_when_it_stops(
    client: Oban, caplog: pytest.LogCaptureFixture
) -> None:
    async with httpx.AsyncClient() as reader:
        async with serving(app(client)) as address:
            logging.getLogger("uvicorn.error").addHandler(caplog.handler)
            sent = reader.build_request("GET", f"{address}/live?every=3600")
            listening = await reader.send(sent, stream=True)
        assert await listening.aread() == b""
    assert caplog.messages == []  # nothing had to be cut off


async def test_a_port_that_is_taken_is_an_error(client: Oban) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ObanError, match=f"port {port} of 127.0.0.1 cannot be opened"):
            async with serving(app(client), port=port):
                pass


async def test_an_application_that_does_not_start_is_an_error_and_not_its_ports() -> None:
    async def failing(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "nothing to begin with"})

    with pytest.raises(ObanError, match="the application to be served did not start"):
        async with serving(failing):
            pass
