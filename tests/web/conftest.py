"""The dashboard of a client on the test's tables, asked as a browser would ask it."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest

from oban import Oban
from oban.web import app

Opening = Callable[..., AbstractAsyncContextManager["Reader"]]


class Reader(httpx.AsyncClient):
    """A browser with a page open: it has the page's token, and sends it with what it changes."""

    token = ""

    async def open(self, path: str = "/jobs") -> httpx.Response:
        page = await self.get(path)
        found = re.search(r'name="csrf" content="([^"]+)"', page.text)
        self.token = found[1] if found else ""
        return page

    async def act(self, path: str, **given: Any) -> httpx.Response:
        if not self.token:
            await self.open()
        headers = {"x-csrf-token": self.token, **given.pop("headers", {})}
        return await self.post(path, headers=headers, **given)


@pytest.fixture
def open_dashboard(client: Oban) -> Opening:
    @asynccontextmanager
    async def opened(
        *, address: str = "127.0.0.1", base_url: str = "http://localhost", **options: Any
    ) -> AsyncIterator[Reader]:
        transport = httpx.ASGITransport(app(client, **options), client=(address, 5000))
        async with Reader(transport=transport, base_url=base_url) as reader:
            yield reader

    return opened


@pytest.fixture
async def reader(open_dashboard: Opening) -> AsyncIterator[Reader]:
    """Somebody at this machine."""
    async with open_dashboard() as found:
        yield found
