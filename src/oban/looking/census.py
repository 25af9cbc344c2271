"""How many jobs there are, by state, queue and worker: counted seldom, shown often."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from oban.engines.base import Engine
from oban.engines.browsing import CensusCount
from oban.engines.operation import Operation
from oban.errors import DatabaseError, TooSlow

Read = Callable[[Operation[Any], float | None], Awaitable[Any]]

#: A count is good for so many seconds, and for so many times as long as it took.
LEAST_AGE: Final = 2.0
SHARE: Final = 20
#: Seconds that a count may take; what is larger is estimated.
PATIENCE: Final = 10.0
#: Seconds that a page waits for the first count, or for one where the last is as old as this.
WAIT: Final = 0.2
STALE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Census:
    states: Mapping[str, int] = field(default_factory=dict)
    #: By queue, and within it by state.
    queues: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    #: By worker.
    workers: Mapping[str, int] = field(default_factory=dict)
    #: Whether it is what the server has noted of the table, and not counted.
    is_estimate: bool = False
    #: When it was taken, by the clock of this process.
    taken_at: float = 0.0

    @property
    def total(self) -> int:
        return sum(self.states.values())

    @property
    def age(self) -> float:
        return time.monotonic() - self.taken_at

    @classmethod
    def of(cls, counts: Sequence[CensusCount]) -> "Census":
        states: Counter[str] = Counter()
        queues: dict[str, Counter[str]] = {}
        workers: Counter[str] = Counter()
        for each in counts:
            states[each.state] += each.count
            queues.setdefault(each.queue, Counter())[each.state] += each.count
            workers[each.worker] += each.count
        return cls(states, queues, workers, taken_at=time.monotonic())


class CensusTaker:
    """Counts while somebody looks, and never for more than a twentieth of the time."""

    def __init__(self, engine: Engine, read: Read | None = None) -> None:
        self.engine = engine
        #: Carries out a read within so many seconds.
        self.read = read or self.execute
        self.last: Census | None = None
        self.due_at = 0.0
        self.task: asyncio.Task[Census] | None = None

    async def execute(self, operation: Operation[Any], seconds: float | None) -> Any:
        return await self.engine.execute(self.engine.within(operation, seconds or PATIENCE))

    async def look(self) -> Census:
        """The last count, seconds old; the first, and one after long, is waited for a moment."""
        if self.task is None or (self.task.done() and time.monotonic() >= self.due_at):
            self.task = asyncio.create_task(self.count())
            self.task.add_done_callback(told)
        if self.last is not None and self.last.age < STALE:
            return self.last
        await asyncio.wait([self.task], timeout=WAIT)
        if self.task.done():
            return self.task.result()
        return self.last or await self.estimate()

    async def count(self) -> Census:
        began = time.monotonic()
        try:
            counted = await self.read(self.engine.census(), PATIENCE)
            self.last = Census.of(counted)
        except TooSlow:
            known = self.last or Census()
            estimate = await self.estimate()
            self.last = Census(estimate.states, known.queues, known.workers, True, time.monotonic())
        except DatabaseError:
            self.due_at = time.monotonic() + LEAST_AGE
            raise
        took = time.monotonic() - began
        self.due_at = time.monotonic() + max(LEAST_AGE, took * SHARE)
        return self.last

    async def estimate(self) -> Census:
        states = await self.read(self.engine.estimate(), None)
        return Census(states, is_estimate=True, taken_at=time.monotonic())

    async def close(self) -> None:
        if self.task is not None and not self.task.done():
            self.task.cancel()
            await asyncio.wait([self.task])


def told(count: "asyncio.Task[Census]") -> None:
    """What it failed with is told by the pages that waited for it, if any did."""
    if not count.cancelled():
        count.exception()
