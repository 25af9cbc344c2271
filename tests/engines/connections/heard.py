"""A connection that listens, and knows when it has heard all there is."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import psycopg
from psycopg import sql
from tests.roads import direct

from oban.engines.postgres.channels import Channels


class Heard:
    """Notifications are queued in the order of commits: what came before a mark of ours is all."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], channels: Channels) -> None:
        self.connection = connection
        self.channels = channels

    @classmethod
    @asynccontextmanager
    async def listening(cls, dsn: str, prefix: str = "public") -> AsyncIterator["Heard"]:
        channels = Channels.of(prefix)
        async with await psycopg.AsyncConnection.connect(
            direct(dsn), autocommit=True
        ) as connection:
            for channel in (*channels.all, "mark"):
                await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
            yield cls(connection, channels)

    async def queues(self) -> list[str]:
        """The queues of which an insert was heard since the last look."""
        return sorted(
            json.loads(payload)["queue"]
            for channel, payload in await self.all()
            if channel == self.channels.insert
        )

    async def all(self) -> list[tuple[str, str]]:
        """Channels and payloads since the last look."""
        await self.connection.execute("notify mark")
        found: list[tuple[str, str]] = []
        async with aclosing(self.connection.notifies(timeout=10)) as notifies:
            async for each in notifies:
                if each.channel == "mark":
                    return found
                found.append((each.channel, each.payload))
        raise AssertionError("the mark was not heard within 10 s")
