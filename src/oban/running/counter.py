"""The counter: counts the jobs that have ended, for the metrics that are kept."""

import time
from collections.abc import Callable
from typing import Final

from oban import telemetry
from oban.engines.base import Engine, Session
from oban.engines.metrics import Outlook
from oban.options import MetricsOptions
from oban.running.horizon import Horizon
from oban.running.leader import Leader
from oban.running.loop import Loop

#: Seconds between two steps while there is more to count.
BREATH: Final = 0.05
#: Seconds for which a transaction that has not ended may hold counting up.
MOST_HELD: Final = 600.0
#: Seconds of history that one step counts: at first, at least and at most.
FIRST_SPAN: Final = 60.0
SHORTEST_SPAN: Final = 5.0
LONGEST_SPAN: Final = 21_600.0
#: Jobs that one step should rather not pass.
MANY: Final = 100_000
#: A count looks into every queue, of which somebody may have a million. One that finds fewer jobs a
#: second than this has spent its time so, and is made so many times as rarely as it takes; with so
#: many seconds between two at most.
FEW_PER_SECOND: Final = 10_000
SHARE: Final = 20
LONGEST_PAUSE: Final = 300.0
#: Seconds between two looks at what has become old.
TENDING: Final = 60.0
#: The same while nothing has ended: then it is an hour that is over which makes something old.
TENDING_IDLY: Final = 600.0
#: Seconds before the first look: a node that starts has better to do, but nothing that ended is
#: pruned before it was counted.
FIRST_REST: Final = 0.3
#: Looks that are left out between two while nothing ends, at first and at most: other nodes may run
#: jobs unknown here. And seconds between two looks beyond which none is.
LEFT_OUT: Final = 2
MOST_LEFT_OUT: Final = 5
LONGEST_REST: Final = 60.0


class Counter(Loop):
    """Runs on every node that may lead, and acts on the one that does.

    Two at once count each job once: the database keeps how far they are. Who leads keeps the
    connection: to make one each time would take more than what it is made for.
    """

    name = "oban.counter"

    def __init__(
        self,
        engine: Engine,
        session: Session,
        options: MetricsOptions,
        leader: Leader,
        *,
        is_quiet: Callable[[], bool],
    ) -> None:
        super().__init__()
        self.engine = engine
        self.session = session
        self.options = options
        self.leader = leader
        #: Whether nothing has ended on this node of late.
        self.is_quiet = is_quiet
        #: How many looks may be left out.
        self.left_out = 0
        #: How many were after the last look that found nothing, 0 after one that found something.
        self.idle = 0
        self.is_first = True
        self.horizon = Horizon()
        self.span = FIRST_SPAN
        #: Up to when there is something to count, by the last look.
        self.reach = 0.0
        #: Whether the transaction that holds counting up was told of.
        self.is_told = False
        #: Who starts has nothing old: what there is was looked after by those before.
        self.tended_at = time.monotonic()
        #: Whether anything was counted since.
        self.has_grown = False

    async def tick(self) -> float:
        """Count one stretch of time; return seconds to rest, few while there is more."""
        if self.is_first:
            self.is_first = False
            return min(self.options.interval, FIRST_REST)
        if not self.leader.is_leader:
            self.horizon = Horizon()  # who leads again knows nothing of what happened meanwhile
            await self.session.close()
            return self.options.interval
        if self.left_out and self.is_quiet():
            self.left_out -= 1
            return self.options.interval
        began = time.monotonic()
        try:
            counted = await self.session.execute(self.engine.count(self.until))
        except Exception:
            self.span = max(SHORTEST_SPAN, self.span / 4)  # it may have been too much to count
            raise
        took = time.monotonic() - began
        self.adapt(counted.finished)
        self.has_grown |= counted.finished > 0
        if counted.counted_to < self.reach or await self.tend():
            self.left_out = 0
            return BREATH
        self.relax(counted.finished)
        is_slow = counted.finished < FEW_PER_SECOND * took
        pause = min(LONGEST_PAUSE, SHARE * took) if is_slow else 0.0
        return max(self.options.interval, pause)

    async def tend(self) -> bool:
        """Look after what has become old, once in a while; whether there is more of it."""
        pause = TENDING if self.has_grown or not self.is_quiet() else TENDING_IDLY
        if time.monotonic() - self.tended_at < pause:
            return False
        if await self.session.execute(self.engine.tend_metrics()):
            return True
        self.tended_at, self.has_grown = time.monotonic(), False
        return False

    def relax(self, finished: int) -> None:
        """Look more seldom while nothing ends, and as often as can be once something does."""
        if finished:
            self.idle = 0
        else:
            self.idle = min(MOST_LEFT_OUT, 2 * self.idle + 1) if self.idle else LEFT_OUT
        rest = self.options.interval * (self.idle + 1)
        self.left_out = self.idle if rest <= LONGEST_REST else 0

    def until(self, outlook: Outlook) -> float:
        """Up to when to count now."""
        horizon = self.horizon.look(outlook.at, outlook.writers)
        oldest = outlook.at - MOST_HELD
        is_held = horizon < oldest and self.horizon.held_for() >= MOST_HELD
        if is_held and not self.is_told:
            metadata = {"seconds": round(self.horizon.held_for(), 3)}
            telemetry.execute("oban.counter.held", metadata)
        self.is_told = is_held
        self.reach = max(horizon, oldest)
        return min(self.reach, outlook.counted_to + self.span)

    def adapt(self, finished: int) -> None:
        if finished > MANY:
            self.span = max(SHORTEST_SPAN, self.span / 2)
        elif finished < MANY / 4:
            self.span = min(LONGEST_SPAN, self.span * (2 if finished else 360))
