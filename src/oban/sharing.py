"""Inserts that come while another is on its way leave together, right after it.

A commit takes the server as long for a hundred jobs as for one. Who comes alone never waits for
company; who comes into a crowd waits for one round trip at most.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from oban.errors import DataRefused, InvalidJob, ObanError
from oban.job import Job

#: Jobs that leave together at most.
MOST: Final = 1_000
#: Seconds after which those who wait leave although the one before has not arrived: its connection
#: may be dead, and theirs may not.
STALLED: Final = 1.0

Insert = Callable[[Sequence[Job], bool], Awaitable[list[Job]]]


@dataclass(slots=True)
class Waiting:
    job: Job
    notify: bool
    inserted: "asyncio.Future[Job]"


class Sharing:
    """Single inserts of one Oban, none of which is part of a caller's transaction."""

    def __init__(self, insert: Insert) -> None:
        self.insert = insert
        self.loop: asyncio.AbstractEventLoop | None = None
        self.begin(None)

    def begin(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """An Oban may be used from one event loop after another: nothing is left of the last."""
        self.loop = loop
        self.waiting: list[Waiting] = []
        self.under_way: set[object] = set()
        self.errands: list[asyncio.Future[None]] = []
        self.stalled: asyncio.TimerHandle | None = None

    async def enqueue(self, job: Job, *, notify: bool) -> Job:
        """Insert a job, all by itself or with others; what is wrong with those is theirs.

        Raises what the insert raises, to each whose job was part of it.
        """
        loop = asyncio.get_running_loop()
        if loop is not self.loop:
            self.begin(loop)
        if not self.under_way:
            return await self.enqueue_alone(job, notify=notify)
        waiting = Waiting(job, bool(notify), loop.create_future())
        self.waiting.append(waiting)
        if self.stalled is None:
            self.stalled = loop.call_later(STALLED, self.depart)
        return await waiting.inserted

    async def enqueue_alone(self, job: Job, *, notify: bool) -> Job:
        trip = object()
        self.under_way.add(trip)
        try:
            (inserted,) = await self.insert([job], notify)
            return inserted
        finally:
            self.arrive(trip)

    async def run_between(self, errand: Callable[[], Awaitable[object]]) -> None:
        """Do something between two inserts, and so without a connection of its own.

        A pool hands out its connections in turn: with a second one, every insert of a caller who
        waits for each would find another server process, and wake it.
        """
        if self.under_way:
            self.errands.append(turn := asyncio.get_running_loop().create_future())
            try:
                await turn  # whoever arrives leaves the way to us, with our trip begun
            except asyncio.CancelledError:
                self.arrive(turn)
                raise
        else:
            self.under_way.add(turn := asyncio.get_running_loop().create_future())
        try:
            await errand()
        finally:
            self.arrive(turn)

    def arrive(self, trip: object) -> None:
        self.under_way.discard(trip)
        if self.under_way:
            return
        while self.errands:
            turn = self.errands.pop(0)
            if not turn.done():
                self.under_way.add(turn)
                turn.set_result(None)
                return
        if self.waiting:
            self.depart()

    def depart(self) -> None:
        """Send those who wait, in a task of their own: none of them can take it along."""
        assert self.loop is not None
        if self.stalled is not None:
            self.stalled.cancel()
            self.stalled = None
        leaving, self.waiting = self.waiting[:MOST], self.waiting[MOST:]
        if self.waiting:
            self.stalled = self.loop.call_later(STALLED, self.depart)
        trip = self.loop.create_task(self.enqueue_together(leaving), name="oban shared insert")
        self.under_way.add(trip)
        trip.add_done_callback(self.arrive)

    async def enqueue_together(self, leaving: Sequence[Waiting]) -> None:
        try:
            for notify in (True, False):
                # One that was cancelled before it was sent is dropped.
                group = [each for each in leaving if each.notify is notify]
                await self.send([each for each in group if not each.inserted.done()], notify)
        finally:
            for each in leaving:
                each.inserted.cancel()  # the program ends; does nothing to those that are done

    async def send(self, group: Sequence[Waiting], notify: bool) -> None:
        if not group:
            return
        try:
            inserted = await self.insert([each.job for each in group], notify)
        except (DataRefused, InvalidJob) as error:
            if len(group) == 1:
                fail(group[0], error)
            else:
                for each in group:  # one by one, so that a bad job fails alone
                    await self.send([each], notify)
        except Exception as error:  # noqa: BLE001  # it is raised to everybody it concerns
            for each in group:
                fail(each, error)
        else:
            for each, job in zip(group, inserted, strict=True):
                if not each.inserted.done():
                    each.inserted.set_result(job)


def fail(waiting: Waiting, error: Exception) -> None:
    """Raise it to one of many: each gets an error of his own, or their tracebacks would mix."""
    if waiting.inserted.done():
        return
    if isinstance(error, ObanError):
        own = type(error)(*error.args)
        own.__cause__ = error.__cause__
        error = own
    waiting.inserted.set_exception(error)
