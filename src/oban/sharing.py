"""Inserts that come while another is on its way leave together, right after it.

A commit takes the server as long for a hundred jobs as for one. Who comes alone never waits for
company; who comes into a crowd waits for one round trip at most.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Final

from oban.errors import DataRefused, InvalidJob
from oban.job import Job

#: Jobs that leave together at most.
MOST: Final = 1_000
#: Seconds after which nobody waits any more for one that has not arrived: its connection may be
#: dead, and theirs may not.
STALLED: Final = 1.0

#: Overdue trips at most, more than a pool has connections: beyond that the database is away, and
#: what comes waits.
MOST_OVERDUE: Final = 32
#: How exactly an event loop keeps time, in seconds, at worst.
CLOCK: Final = 0.01

Insert = Callable[[Sequence[Job], bool], Awaitable[list[Job]]]


@dataclass(slots=True)
class Waiting:
    job: Job
    notify: bool
    inserted: "asyncio.Future[Job]"


@dataclass(slots=True, eq=False)
class Trip:
    """An insert or an errand on its way, since when, and the task that was made for it."""

    left_at: float
    task: "asyncio.Task[None] | None" = None


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
        self.errands: list[asyncio.Future[Trip]] = []
        #: What the others wait for.
        self.under_way: Trip | None = None
        #: What nobody waits for any more.
        self.overdue: set[Trip] = set()
        #: The next look whether the one under way is overdue, while anybody waits for it.
        self.look: asyncio.TimerHandle | None = None

    async def enqueue(self, job: Job, *, notify: bool) -> Job:
        """Insert a job, all by itself or with others; what is wrong with those is theirs.

        Raises what the insert raises, to each whose job was part of it.
        """
        loop = asyncio.get_running_loop()
        if loop is not self.loop:
            self.begin(loop)
        if self.under_way is None:
            return await self.enqueue_alone(job, notify=notify)
        waiting = Waiting(job, bool(notify), loop.create_future())
        self.waiting.append(waiting)
        self.look_later()
        return await waiting.inserted

    async def enqueue_alone(self, job: Job, *, notify: bool) -> Job:
        trip = self.leave()
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
        loop = asyncio.get_running_loop()
        if loop is not self.loop:
            self.begin(loop)
        if self.under_way is None:
            trip = self.leave()
        else:
            self.errands.append(turn := loop.create_future())
            self.look_later()
            try:
                trip = await turn  # whoever arrives leaves the way to us, with our trip begun
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self.arrive(turn.result())
                raise
        try:
            await errand()
        finally:
            self.arrive(trip)

    def leave(self) -> Trip:
        assert self.loop is not None
        self.under_way = trip = Trip(self.loop.time())
        return trip

    def arrive(self, trip: Trip) -> None:
        if trip is self.under_way:
            self.under_way = None
            self.go_on()
        else:
            self.overdue.discard(trip)
            self.look_later()  # there is room for another

    def go_on(self) -> None:
        """The way is free: for an errand, or else for those who wait."""
        while self.errands:
            turn = self.errands.pop(0)
            if not turn.done():
                turn.set_result(self.leave())
                break
        else:
            if self.waiting:
                self.depart()
        self.look_later()

    def look_later(self) -> None:
        if self.look is not None or not (self.waiting or self.errands):
            return
        if self.under_way is not None and len(self.overdue) < MOST_OVERDUE:
            assert self.loop is not None
            left = self.under_way.left_at + STALLED - self.loop.time()
            self.look = self.loop.call_later(max(left, CLOCK), self.look_at_trip)

    def look_at_trip(self) -> None:
        """Wait no longer for a trip that is overdue."""
        assert self.loop is not None
        self.look = None
        trip = self.under_way
        if trip is not None and trip.left_at + STALLED <= self.loop.time() + CLOCK:
            self.overdue.add(trip)
            self.under_way = None
            self.go_on()
        else:
            self.look_later()

    def depart(self) -> None:
        """Send those who wait, in a task of their own: none of them can take it along."""
        assert self.loop is not None
        leaving, self.waiting = self.waiting[:MOST], self.waiting[MOST:]
        trip = self.leave()
        trip.task = self.loop.create_task(self.enqueue_together(leaving), name="oban shared insert")
        trip.task.add_done_callback(lambda _: self.arrive(trip))

    async def enqueue_together(self, leaving: Sequence[Waiting]) -> None:
        try:
            for notify in (True, False):
                await self.send([each for each in leaving if each.notify is notify], notify)
        finally:
            for each in leaving:
                each.inserted.cancel()  # the program ends; does nothing to those that are done

    async def send(self, group: Sequence[Waiting], notify: bool) -> None:
        """Insert a group, by halves if it is refused, so that a bad job fails alone."""
        # One that was cancelled before it was sent is dropped.
        group = [each for each in group if not each.inserted.done()]
        if not group:
            return
        try:
            inserted = await self.insert([each.job for each in group], notify)
        except (DataRefused, InvalidJob) as error:
            if len(group) == 1:
                fail(group[0], error)
            else:
                middle = len(group) // 2
                await self.send(group[:middle], notify)
                await self.send(group[middle:], notify)
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
    try:
        own = copy(error)
    except Exception:  # noqa: BLE001  # somebody's class, which may not be made like that
        own = error
    else:
        own = own.with_traceback(error.__traceback__)
        own.__cause__ = error.__cause__
    waiting.inserted.set_exception(own)
