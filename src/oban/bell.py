"""Telling the nodes of inserts: at once, and then not again for a few milliseconds.

A notification takes a lock of the whole server until its transaction is on disk, so writers that
notify commit one after the other. The first insert after a pause notifies by itself. What follows
within the window is told once, at its end, by a statement that writes nothing and so holds the lock
for no time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from oban.job import Job
from oban.states import JobState

#: Seconds between two notifications for a queue, at least; more where telling takes long.
WINDOW: Final = 0.005
LONGEST_WINDOW: Final = 0.05
#: The part of its time that a process may spend telling.
SHARE: Final = 0.1
#: Seconds that telling may take: its connection may be dead, and others are to be told of more.
RINGING: Final = 5.0
#: And at the end.
FLUSHING: Final = 1.0
#: How exactly a loop keeps time, in seconds.
CLOCK: Final = 0.001


class Bell:
    """Of one process, for the queues that it inserts into over connections of its own.

    What is still to be told is lost with the process, as any notification may be: then a node finds
    the job when it next looks by itself.
    """

    def __init__(self, ring: Callable[[list[str]], Awaitable[object]]) -> None:
        self.ring = ring
        #: What was inserted quietly.
        self.untold: set[str] = set()
        self.begin(None)

    def begin(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """An Oban may be used from one event loop after another: windows end with theirs."""
        self.loop = loop
        self.window = WINDOW
        #: When each queue's window ends.
        self.until: dict[str, float] = {}
        self.ringing: asyncio.Task[object] | None = None

    def is_due(self, jobs: Sequence[Job]) -> bool:
        """Whether an insert of these jobs is to notify by itself; begins the window if it is."""
        loop = asyncio.get_running_loop()
        if loop is not self.loop:
            self.begin(loop)
        now = loop.time()
        available = [job.queue for job in jobs if job.state is JobState.AVAILABLE]
        beginning = {queue for queue in available if now >= self.until.get(queue, now)}
        # One that runs is not begun anew: what was inserted quietly is to be told at its end.
        self.begin_windows(beginning)
        self.tell_if_due()  # what the last loop left, after that: this insert tells by itself
        # When a job is due is told to the stagers, which is not for later, and to no queue.
        return bool(beginning) or len(available) < len(jobs)

    def inserted(self, jobs: Iterable[Job]) -> None:
        """Jobs are in the table that no notification told of."""
        self.untold |= {job.queue for job in jobs}
        self.tell_if_due()

    def begin_windows(self, queues: Iterable[str]) -> None:
        loop = asyncio.get_running_loop()
        for queue in queues:
            self.until[queue] = loop.time() + self.window
            loop.call_later(self.window, self.end_window, queue)

    def end_window(self, queue: str) -> None:
        if asyncio.get_running_loop().time() < self.until.get(queue, 0.0) - CLOCK:
            return  # another has begun meanwhile
        self.until.pop(queue, None)
        if queue in self.untold:
            self.tell()

    def tell_if_due(self) -> None:
        now = asyncio.get_running_loop().time()
        if any(now >= self.until.get(queue, now) for queue in self.untold):
            self.tell()

    def tell(self) -> None:
        """Tell of all that was inserted quietly, unless that is being done: then right after it."""
        if self.ringing is not None:
            return
        # By text: what is no name fails in the statement and not here, where it would for ever.
        queues, self.untold = sorted(self.untold, key=str), set()
        self.begin_windows(queues)
        self.ringing = asyncio.ensure_future(self.ring_once(queues))
        self.ringing.add_done_callback(self.rang)

    def rang(self, ringing: asyncio.Task[object]) -> None:
        if ringing is self.ringing:
            self.ringing = None
            if not ringing.cancelled():
                self.tell_if_due()

    async def ring_once(self, queues: list[str]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            with suppress(Exception):  # a hint: the nodes look by themselves
                async with asyncio.timeout(RINGING):
                    await self.ring(queues)
        except asyncio.CancelledError:
            self.untold.update(queues)  # the loop ends: it is for the next
            raise
        took = loop.time() - began
        self.window = min(LONGEST_WINDOW, max(WINDOW, took / SHARE))

    async def flush(self) -> None:
        """Tell at once what is still to be told."""
        loop = asyncio.get_running_loop()
        if loop is not self.loop:
            self.begin(loop)
        until = loop.time() + FLUSHING
        while self.untold or self.ringing is not None:
            self.tell()
            assert self.ringing is not None
            left = until - loop.time()
            _, late = await asyncio.wait([self.ringing], timeout=max(left, 0.0))
            if late:
                return
            await asyncio.sleep(0)  # its callback runs
