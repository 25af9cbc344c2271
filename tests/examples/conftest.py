from collections.abc import AsyncIterator

import pytest
from examples.newsletter.mail_server import MailServer


@pytest.fixture
async def mail() -> AsyncIterator[MailServer]:
    async with MailServer(delay=0) as server:
        yield server
