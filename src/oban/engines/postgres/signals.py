"""Hearing the other nodes: LISTEN on a connection of its own, for as long as it is wanted."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import psycopg

from oban.backoff import outage_backoff
from oban.engines.postgres.channels import Channels
from oban.engines.postgres.connections.own import Connector
from oban.engines.postgres.statements import quoted
from oban.engines.values import Resync, Signal
from oban.errors import DatabaseUnavailable

LABEL: Final = "oban listen"
#: Seconds of silence after which the connection is asked whether it is still there.
QUIET: Final = 15.0


async def listen(connector: Connector, channels: Channels) -> AsyncIterator[Signal]:
    """Yield what is heard, and a `Resync` whenever something may have been missed before."""
    failures = 0
    while True:
        try:
            connection = await connector.open(LABEL)
        except DatabaseUnavailable:
            failures += 1
            await asyncio.sleep(outage_backoff(failures))
            continue
        try:
            await subscribe(connection, channels)
            failures = 0
            yield Resync()
            async for signal in hear(connection, channels):
                yield signal
        except (psycopg.Error, TimeoutError):
            failures += 1
            await asyncio.sleep(outage_backoff(failures))
        finally:
            await connection.close()


async def subscribe(connection: psycopg.AsyncConnection[Any], channels: Channels) -> None:
    for channel in channels.all:
        await connection.execute(f"listen {quoted(channel)}".encode())


async def hear(
    connection: psycopg.AsyncConnection[Any], channels: Channels
) -> AsyncIterator[Signal]:
    while True:
        async for notification in connection.notifies(timeout=QUIET):
            signal = channels.read(notification.channel, notification.payload)
            if signal is not None:
                yield signal
        # A half-open connection is silent too; only an answer tells them apart.
        async with asyncio.timeout(QUIET):
            await connection.execute(b"select 1")
