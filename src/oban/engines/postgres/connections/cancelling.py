"""A statement whose caller is cancelled: the server is asked to stop it, and waited for briefly."""

import asyncio
import contextlib
import os
import socket
from typing import Any, Final

import psycopg

#: Seconds in which the server stops a statement; then the connection is ended here.
PATIENCE: Final = 0.5


class BriefCancelling:
    """Stands in the place of a connection's `cancel_safe` until `end`.

    psycopg calls that when a wait is cancelled, and then waits up to ten seconds for what the
    server says. A statement that only waits for a lock is stopped in a moment. Where nobody
    answers, the caller's deadline would be that much later.
    """

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection
        self.timer: asyncio.TimerHandle | None = None
        connection.cancel_safe = self.cancel  # type: ignore[method-assign]

    async def cancel(self, *, timeout: float = PATIENCE) -> None:
        loop = asyncio.get_running_loop()
        self.timer = loop.call_later(PATIENCE, hang_up, self.connection)
        async with asyncio.timeout(PATIENCE):
            await type(self.connection).cancel_safe(self.connection, timeout=min(timeout, PATIENCE))

    def end(self) -> None:
        del self.connection.cancel_safe
        if self.timer is not None:
            self.timer.cancel()


def hang_up(connection: psycopg.AsyncConnection[Any]) -> None:
    """End the connection under a statement that waits for an answer: it fails at once.

    Closing it would take the file descriptor from under the event loop, which waits for it.
    """
    with (
        contextlib.suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.pgconn.socket)) as line,
    ):
        line.shutdown(socket.SHUT_RDWR)
