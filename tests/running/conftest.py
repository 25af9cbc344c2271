"""An Oban that runs, made with the options a test cares about."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.running.support import Running

from oban import Oban


@pytest.fixture
def running(oban_dsn: str) -> Running:
    @asynccontextmanager
    async def run(**options: Any) -> AsyncIterator[Oban]:
        options = {"queues": {"default": 10}, "shutdown_grace_period": 1.0, **options}
        async with Oban(pool=oban_dsn, **options) as oban:
            yield oban

    return run
