"""The heartbeat: says that the producers of this process live, and hears of the others."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from oban import telemetry
from oban.engines.base import Engine, Session
from oban.engines.nodes import Beat, Pulse, Report
from oban.options import RefresherOptions
from oban.running.leader import Leader
from oban.running.loop import Loop
from oban.running.loop_watch import LoopWatch

#: Seconds between two looks for producers that can be forgotten.
CLEANUP: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the producers of this process had to tell at one moment; numbered in order."""

    number: int
    pulses: Sequence[Pulse]
    #: What is the same for all of them.
    facts: Mapping[str, object]


class Refresher(Loop):
    """One statement per interval and process, whatever the event loop of the jobs does.

    A loop that has been blocked for `max_block` seconds is as good as dead: then the beats end, and
    others rescue its jobs.
    """

    name = "oban.refresher"

    def __init__(
        self,
        engine: Engine,
        session: Session,
        options: RefresherOptions,
        watch: LoopWatch[Snapshot],
        leader: Leader,
        *,
        name: str,
        hear: Callable[[Beat, Snapshot], None],
        observe: Callable[[Beat, float], None],
    ) -> None:
        super().__init__()
        self.engine = engine
        self.session = session
        self.options = options
        self.watch = watch
        self.leader = leader
        self.instance = name
        self.hear = hear
        self.observe = observe
        # After an outage the others must be able to see us soon, too.
        self.longest_wait = min(self.longest_wait, options.interval / 2)
        self.answered_at: float | None = None
        #: The producers that the last beat told of.
        self.told: set[str] = set()
        self.cleanup_at = time.monotonic() + random.uniform(0, CLEANUP)  # noqa: S311  # spreads load

    async def tick(self) -> float:
        began = time.monotonic()
        snapshot = await self.watch.look()
        pulses = snapshot.pulses
        if self.watch.wedged:
            self.answered_at = None  # the silence that follows has this reason, and is told as this
            return self.options.interval
        self.report_late(pulses)
        with (
            telemetry.span("oban.leader.election") as election,
            telemetry.span("oban.refresher.refresh") as span,
        ):
            asked_at = time.monotonic()
            beat = await self.session.execute(self.engine.beat(self.report(snapshot)))
            self.leader.hear(beat.lease, asked_at, self.options.lease)
            span.add({"refreshed_count": len(pulses)})
            election.add({"leader": self.leader.is_leader})
        self.answered_at = time.monotonic()
        self.observe(beat, self.answered_at)
        self.hear(beat, snapshot)
        await self.forget_retired({each.identity.uuid for each in pulses})
        if self.answered_at >= self.cleanup_at:
            await self.clean_up()
        rest = max(0.0, began + self.options.interval - time.monotonic())
        return min(rest, self.leader.next_look())

    async def forget_retired(self, uuids: set[str]) -> None:
        """Forget queues that were stopped and are done, so that nobody waits for them to return."""
        if retired := self.told - uuids:
            await self.session.execute(self.engine.forget(sorted(retired)))
        self.told = uuids

    def report(self, snapshot: Snapshot) -> Report:
        facts = {
            **snapshot.facts,
            "interval": self.options.interval,
            "loop_lag": round(self.watch.lag, 4),
        }
        return Report(
            name=self.instance,
            node=self.leader.node,
            pulses=[replace(each, meta={**each.meta, **facts}) for each in snapshot.pulses],
            max_age=self.options.max_age,
            candidate=self.leader.candidate,
            lease=self.options.lease,
        )

    def report_late(self, pulses: Sequence[Pulse]) -> None:
        """Tell of a silence that nothing but this process explains, and of what ran meanwhile.

        Code that holds the interpreter's lock keeps every thread from running, this one too.
        """
        if self.answered_at is None or self.failures:
            return
        silence = time.monotonic() - self.answered_at
        if silence > self.options.max_age:
            running = {pulse.identity.queue: pulse.meta["running"] for pulse in pulses}
            facts = {"seconds": round(silence, 3), "max_age": self.options.max_age}
            telemetry.execute("oban.refresher.late", {**facts, "running": running})

    async def clean_up(self) -> None:
        with telemetry.span("oban.refresher.cleanup") as span:
            forgotten = await self.session.execute(self.engine.forget_silent())
            await self.session.execute(self.engine.forget_limiters())
            span.add({"cleanup_count": forgotten})
        self.cleanup_at = time.monotonic() + CLEANUP
