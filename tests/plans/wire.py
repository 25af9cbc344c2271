"""What goes over the wire: each statement that is sent, by the name it has in our files."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from tests.faults.proxy import Proxy

from oban.engines.postgres.statements import Statements

NAMES: Final = {block.numbered: name for name, block in Statements("public").blocks.items()}


@dataclass
class Wire:
    """Each statement is a round trip and, outside `begin` and `commit`, a commit."""

    dsn: str
    sent: list[str] = field(default_factory=list)

    def note(self, sql: str) -> bool:
        self.sent.append(NAMES.get(sql, sql.lower()))
        return False  # and let it pass

    def take(self) -> list[str]:
        """What was sent since the last time."""
        sent, self.sent = self.sent, []
        return sent


@asynccontextmanager
async def tapped(dsn: str) -> AsyncIterator[Wire]:
    """Lead to the same database through a proxy that notes what is sent."""
    async with Proxy(dsn) as proxy:
        wire = Wire(proxy.dsn())
        proxy.cut_before_send(wire.note)
        yield wire
