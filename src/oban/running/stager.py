"""The stager: makes jobs available when they are due, and wakes the producers that have work."""

import asyncio
import math
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

from oban import telemetry
from oban.engines.base import Engine, Session
from oban.engines.runs import Head, Staged
from oban.options import StagerOptions
from oban.running.loop import Loop

#: Without notifications: the part of the interval between two looks after one that found something,
#: and how quickly that grows again while there is nothing.
BUSY: Final = 0.05
EASING: Final = 1.5
#: Seconds between two looks for the sake of jobs of this process that run again at once.
SHORTEST: Final = 0.02


class Stager(Loop):
    """Runs on every node with queues; they share the work.

    It sleeps until the next job is due, and at most one interval, so that a queue whose
    notifications were lost is found at the latest then. Where none can be heard it polls, the more
    often the more there is to do.
    """

    name = "oban.stager"

    def __init__(
        self,
        engine: Engine,
        session: Session,
        options: StagerOptions,
        queues: Callable[[], Collection[str]],
        hear_head: Callable[[str, Head], None],
        *,
        hearing: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__()
        self.engine = engine
        self.session = session
        self.options = options
        self.queues = queues
        self.hear_head = hear_head
        self.hearing = hearing
        #: Seconds between two looks where nothing is heard.
        self.poll = options.interval
        #: The next planned look, by this loop's clock and by the database's.
        self.planned = 0.0
        self.planned_at = math.inf
        #: When it last began to look.
        self.looked = 0.0

    async def tick(self) -> float:
        self.planned_at = math.inf
        self.looked = asyncio.get_running_loop().time()
        with telemetry.span("oban.stager.stage") as span:
            staged = await self.session.execute(
                self.engine.stage(sorted(self.queues()), self.options.limit)
            )
            span.add(
                {
                    "staged_count": staged.staged_count,
                    "available_queues": sorted(staged.available_queues),
                    "discarded_count": staged.discarded_count,
                }
            )
        for queue, head in staged.heads.items():
            self.hear_head(queue, head)
        is_placed = await self.place(staged)
        if not is_placed or max(staged.staged_count, staged.discarded_count) >= self.options.limit:
            return 0.0
        delay = self.rest(staged)
        if staged.next_due_in is not None:
            delay = min(delay, max(0.0, staged.next_due_in))
        self.planned = asyncio.get_running_loop().time() + delay
        self.planned_at = staged.at + delay
        return delay

    async def place(self, staged: Staged) -> bool:
        """Put jobs in the lane they belong in; return whether all are, as far as is known.

        Those that we insert are in theirs from the start. Others are not, nor those that were there
        before their queue had partitions.
        """
        is_placed = True
        for queue in staged.misplaced:
            placing = self.engine.place(queue, self.options.limit)
            is_placed &= await self.session.execute(placing) < self.options.limit
            self.hear_head(queue, replace(staged.heads[queue], is_laned=True))
        return is_placed

    def rest(self, staged: Staged) -> float:
        """Seconds between two looks: fewer while there is work that nobody is told of."""
        if self.hearing():
            self.poll = self.options.interval
        elif staged.available_queues or staged.staged_count:
            self.poll = self.options.interval * BUSY
        else:
            self.poll = min(self.options.interval, self.poll * EASING)
        return self.poll

    def hear_due(self, at: float) -> None:
        """A job was scheduled for `at`, by the database's clock; look then, if not sooner."""
        self.look_sooner(self.planned_at - at)

    def hear_due_in(self, delay: float) -> None:
        """A job of this process is to run again in so many seconds; look then, if not sooner."""
        soonest = self.looked + SHORTEST
        self.look_sooner(self.planned - max(asyncio.get_running_loop().time() + delay, soonest))

    def look_sooner(self, seconds: float) -> None:
        """Look so many seconds before the planned time."""
        if self.planned_at == math.inf:
            self.alarm.wake()  # a look is under way and may miss it: look once more
        elif seconds > 0:
            self.planned -= seconds
            self.planned_at -= seconds
            loop = asyncio.get_running_loop()
            loop.call_later(max(0.0, self.planned - loop.time()), self.alarm.wake)
