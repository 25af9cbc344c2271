"""One client's connection, carried on to the server under the conditions a test sets."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.faults.cut import Cut
from tests.faults.wire import Session

CHUNK = 64 * 1024
IN_FLIGHT = 64  # chunks on their way in one direction
PATIENCE = 5.0  # seconds for the server to accept a connection, or to see one end

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Conditions:
    """What every link of a proxy obeys, read anew for each chunk."""

    armed: list[Cut] = field(default_factory=list)
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    latency: float = 0.0


class Link:
    """A task that pairs an accepted socket with a connection to the server until either ends."""

    def __init__(
        self,
        client: socket.socket,
        connect: Callable[[], Awaitable[Streams]],
        conditions: Conditions,
    ) -> None:
        self._socket = client
        self._connect = connect
        self._conditions = conditions
        self._session = Session(conditions.armed)
        self._writers: list[asyncio.StreamWriter] = []
        self._severed = False
        self.task = asyncio.create_task(self._run())
        # A task cancelled before its first step never runs its `finally`.
        self.task.add_done_callback(lambda _: client.close())

    def sever(self) -> None:
        """Close both sides at once with a reset, whatever is on its way."""
        if not self._severed:
            self._severed = True
            self._reset()
            self.task.cancel()

    async def _run(self) -> None:
        try:
            await self._conditions.flowing.wait()
            async with asyncio.timeout(PATIENCE):
                client = await self._open(asyncio.open_connection(sock=self._socket))
                server = await self._open(self._connect())
            await self._converse(client, server)
            if self._session.cut:
                await self._fire(self._session.cut, server)
        except OSError:
            pass  # no server: the client learns it from the end of its connection
        finally:
            await self._close()

    async def _open(self, opening: Awaitable[Streams]) -> Streams:
        streams = await opening
        self._writers.append(streams[1])
        return streams

    async def _converse(self, client: Streams, server: Streams) -> None:
        """Carry both directions until one of them ends; raise what went wrong inside."""
        lanes = [
            asyncio.create_task(self._carry(client[0], self._session.from_client, server[1])),
            asyncio.create_task(self._carry(server[0], self._session.from_server, client[1])),
        ]
        try:
            done, _ = await asyncio.wait(lanes, return_when=asyncio.FIRST_COMPLETED)
            for lane in done:
                lane.result()
        finally:
            await _end(*lanes)

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        hear: Callable[[bytes], None],
        onward: asyncio.StreamWriter,
    ) -> None:
        """Pass chunks on in order, each when its latency is over and the line flows."""
        loop = asyncio.get_running_loop()
        on_its_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(IN_FLIGHT)
        receiving = asyncio.create_task(self._receive(reader, on_its_way))
        try:
            while not self._session.cut:
                due, chunk = await on_its_way.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                await self._conditions.flowing.wait()
                if not chunk:
                    return
                hear(chunk)
                self._send()
                with contextlib.suppress(OSError):  # the other lane sees that end
                    await onward.drain()
        finally:
            await _end(receiving)

    async def _receive(
        self, reader: asyncio.StreamReader, on_its_way: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        """Stamp each chunk with the time it is due; an empty one is the end."""
        loop = asyncio.get_running_loop()
        while True:
            chunk = b""
            with contextlib.suppress(OSError):
                chunk = await reader.read(CHUNK)
            await on_its_way.put((loop.time() + self._conditions.latency, chunk))
            if not chunk:
                return

    def _send(self) -> None:
        client, server = self._writers
        for writer, out in (client, self._session.to_client), (server, self._session.to_server):
            if out:
                writer.write(bytes(out))
                out.clear()

    async def _fire(self, cut: Cut, server: Streams) -> None:
        """End the server's side first: its session and locks are gone when the client knows."""
        reader, writer = server
        try:
            async with asyncio.timeout(PATIENCE):
                writer.write_eof()
                while await reader.read(CHUNK):
                    pass
        except OSError:
            pass  # already gone, or busy for longer than we wait: the reset ends it
        finally:
            cut.record()
            self._reset()

    def _reset(self) -> None:
        """Make the end a reset: with linger zero, closing discards what was not sent."""
        linger = struct.pack("ii", 1, 0)
        for end in [self._socket, *(w.get_extra_info("socket") for w in self._writers[1:])]:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        for writer in self._writers:
            writer.transport.abort()

    async def _close(self) -> None:
        for writer in self._writers:
            writer.close()
        for writer in self._writers:
            try:
                with contextlib.suppress(OSError):
                    async with asyncio.timeout(PATIENCE):
                        await writer.wait_closed()
            finally:
                writer.transport.abort()


async def _end(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
