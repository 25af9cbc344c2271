"""The stager: makes jobs available when they are due, and wakes the producers that have work."""

import asyncio
import math
from collections.abc import Callable, Collection

from oban import telemetry
from oban.engines.base import Engine, Session
from oban.options import StagerOptions
from oban.running.loop import Loop


class Stager(Loop):
    """Runs on every node with queues; they share the work.

    It sleeps until the next job is due, and at most one interval, so that a queue whose
    notifications were lost is found at the latest then.
    """

    name = "oban.stager"

    def __init__(
        self,
        engine: Engine,
        session: Session,
        options: StagerOptions,
        queues: Callable[[], Collection[str]],
        wake_queue: Callable[[str], None],
    ) -> None:
        super().__init__()
        self.engine = engine
        self.session = session
        self.options = options
        self.queues = queues
        self.wake_queue = wake_queue
        #: The next planned look, by this loop's clock and by the database's.
        self.planned = 0.0
        self.planned_at = math.inf

    async def tick(self) -> float:
        self.planned_at = math.inf
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
        for queue in staged.available_queues:
            self.wake_queue(queue)
        if max(staged.staged_count, staged.discarded_count) >= self.options.limit:
            return 0.0
        delay = self.options.interval
        if staged.next_due_in is not None:
            delay = min(delay, max(0.0, staged.next_due_in))
        self.planned = asyncio.get_running_loop().time() + delay
        self.planned_at = staged.at + delay
        return delay

    def hear_due(self, at: float) -> None:
        """A job was scheduled for `at`, by the database's clock; look then, if not sooner."""
        if self.planned_at == math.inf:
            self.alarm.wake()  # a look is under way and may miss it: look once more
            return
        if at >= self.planned_at:
            return
        loop = asyncio.get_running_loop()
        self.planned -= self.planned_at - at
        self.planned_at = at
        loop.call_later(max(0.0, self.planned - loop.time()), self.alarm.wake)
