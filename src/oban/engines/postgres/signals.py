"""Hearing the other nodes: LISTEN on a connection of its own, for as long as it is wanted.

A pooler in transaction mode takes a LISTEN and delivers nothing, and leaves the subscription behind
on a connection that others use next. So nothing is subscribed to through a pooler, unless somebody
names an address to listen at; then a notification sent through the database must arrive there.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import uuid4

import psycopg

from oban.backoff import outage_backoff
from oban.engines.postgres.channels import Channels
from oban.engines.postgres.connections.own import Connector
from oban.engines.postgres.statements import quoted
from oban.engines.signals import Commanded, Deaf, ForeignCommand, Resync, Signal
from oban.errors import DatabaseUnavailable

LABEL: Final = "oban listen"
PROBE_LABEL: Final = "oban probe"
#: Seconds of silence after which the connection is asked whether it is still there.
QUIET: Final = 20.0
#: Seconds that a notification sent to ourselves may take to arrive.
ARRIVAL: Final = 5.0
#: So many failures in a row are told; the first is often over with the next try.
TOLD: Final = 2
#: Seconds until somebody who hears nothing tries again.
DEAF: Final = 300.0

POOLED: Final = (
    "the database is reached through a pooler; set listen_dsn to an address without one, "
    "and jobs start at once"
)
LOST: Final = (
    "a notification sent through the database did not arrive at listen_dsn; it must be the same "
    "database, on its primary server, without a pooler in transaction mode"
)


class Echoes:
    """What our own commands say to other packages, which would reach Obans of every name.

    It comes right after the command, from the same session.
    """

    def __init__(self) -> None:
        self.pid = 0
        self.count = 0

    def include(self, signal: Signal, pid: int) -> bool:
        if isinstance(signal, Commanded):
            self.pid, self.count = pid, signal.echo_count
        elif self.count and self.pid == pid and isinstance(signal, ForeignCommand):
            self.count -= 1
            return True
        return False


class Ears:
    """Where to listen, and where what is heard comes from."""

    def __init__(self, connector: Connector, named: Connector | None, channels: Channels) -> None:
        self.connector = connector
        #: An address that somebody has named to listen at.
        self.named = named
        self.channels = channels

    async def listen(self) -> AsyncIterator[Signal]:
        """Yield what is heard, and a `Resync` whenever something may have been missed before.

        `Deaf` says that nothing is heard for a while, and why.
        """
        failures = 0
        while True:
            try:
                connection = await (self.named or self.connector).open(LABEL)
                try:
                    if trouble := await self.subscribe(connection):
                        yield Deaf(trouble)
                        await connection.close()
                        await asyncio.sleep(DEAF)
                        continue
                    failures = 0
                    yield Resync()
                    async for signal in self.hear(connection):
                        yield signal
                finally:
                    await connection.close()
            except (psycopg.Error, DatabaseUnavailable, TimeoutError) as error:
                failures += 1
                if failures == TOLD:
                    yield Deaf(f"the connection for listening fails: {str(error).strip()}")
                await asyncio.sleep(outage_backoff(failures))

    async def subscribe(self, connection: psycopg.AsyncConnection[Any]) -> str | None:
        """Listen to all channels; return why that is of no use, if it is not."""
        if self.named is None and not self.connector.route.direct:
            return POOLED
        for channel in self.channels.all:
            await connection.execute(f"listen {quoted(channel)}".encode())
        if self.named is None or await self.arrives(connection):
            return None
        await connection.execute(b"unlisten *")
        return LOST

    async def arrives(self, connection: psycopg.AsyncConnection[Any]) -> bool:
        """Whether a notification sent through the database itself is heard here."""
        token = str(uuid4())
        sender = await self.connector.open(PROBE_LABEL)
        try:
            payload = f'{{"probe": "{token}"}}'
            await sender.execute("select pg_notify(%s, %s)", [self.channels.control, payload])
        finally:
            await sender.close()
        async for notification in connection.notifies(timeout=ARRIVAL):
            if token in notification.payload:
                return True
        return False

    async def hear(self, connection: psycopg.AsyncConnection[Any]) -> AsyncIterator[Signal]:
        echoes = Echoes()
        while True:
            async for notification in connection.notifies(timeout=QUIET):
                signal = self.channels.read(notification.channel, notification.payload)
                if signal is not None and not echoes.include(signal, notification.pid):
                    yield signal
            # A half-open connection is silent too; only an answer tells them apart.
            async with asyncio.timeout(QUIET):
                await connection.execute(b"select 1")
