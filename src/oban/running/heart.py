"""What keeps a node among the living: its heartbeat and its lifeline, on a thread of their own."""

import asyncio
import contextlib
import math
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from oban.engines.base import Engine, Session
from oban.engines.nodes import Beat
from oban.job import Job
from oban.options import Options
from oban.running.boot import Boot
from oban.running.counter import Counter
from oban.running.leader import Leader
from oban.running.lifeline import Lifeline
from oban.running.loop import Loop
from oban.running.loop_watch import PATIENCE, LoopWatch
from oban.running.meter import Meter
from oban.running.occasional import OccasionalSession
from oban.running.process import memory, version
from oban.running.producer import Producer
from oban.running.pruner import Pruner
from oban.running.refresher import Refresher, Snapshot
from oban.running.reporter import Reporter
from oban.running.scheduler import Clock, Scheduler
from oban.running.side_thread import SideThread
from oban.vault import Vault

BEAT_LABEL: Final = "oban heartbeat"
RESCUE_LABEL: Final = "oban lifeline"
SCHEDULE_LABEL: Final = "oban scheduler"
PRUNE_LABEL: Final = "oban pruner"
METRICS_LABEL: Final = "oban metrics"
COUNT_LABEL: Final = "oban counter"
#: Seconds that a beat waits for its answer at least.
SHORTEST_PATIENCE: Final = 2.0
#: Seconds that whoever waits for a beat waits at most.
ANNOUNCING: Final = 2.0
#: Seconds that signing off may take.
SIGNING_OFF: Final = 1.0


class Body(Protocol):
    """What the heart beats for."""

    #: Why no notifications are heard, None while they are.
    hearing: str | None

    def queue_loops(self) -> Sequence[Producer]: ...

    def hear_beat(self, beat: Beat) -> None: ...


class Heart:
    """Beats from `open` until `close`, then forgets the producers that no job needs any more.

    Opening returns after the first beat, which records the producers as ours: before that they may
    not claim.
    """

    def __init__(
        self,
        engine: Engine,
        options: Options,
        leader: Leader,
        body: Body,
        *,
        vault: Vault,
        meter: Meter,
    ) -> None:
        self.engine = engine
        self.name = options.name
        self.options = options.refresher
        self.lifeline_options = options.lifeline
        self.scheduler_options = options.scheduler
        self.pruner_options = options.pruner
        self.metrics_options = options.metrics
        self.meter = meter
        self.vault = vault
        self.leader = leader
        self.body = body
        self.thread = SideThread("oban heartbeat", self.live)
        self.refresher: Refresher | None = None
        #: The newest beat, until the jobs' loop has looked at it.
        self.unheard: deque[tuple[Beat, Snapshot]] = deque(maxlen=1)
        #: Who waits for a beat that tells of a snapshot with that number, or a later one.
        self.waiting: list[tuple[int, asyncio.Future[None]]] = []
        self.taken_count = 0
        #: Of our producers, all that a beat has told of, and those whose beat was answered.
        self.uuids: set[str] = set()
        self.recorded: set[str] = set()
        self.heard_at = -math.inf

    async def open(self) -> None:
        self.main = asyncio.get_running_loop()
        self.watch = LoopWatch(
            self.main,
            self.take,
            self.culprit,
            patience=min(PATIENCE, self.options.interval / 2),
            max_block=self.options.max_block,
        )
        await self.thread.open()

    async def close(self) -> None:
        await self.thread.close()

    def beat_age(self) -> float | None:
        """Seconds since a beat was answered, None before the first and while the loop is wedged."""
        answered_at = self.refresher.answered_at if self.refresher else None
        return None if answered_at is None else time.monotonic() - answered_at

    def is_believed_alive(self) -> bool:
        """Whether the others have reason to: a beat was answered within `max_age`.

        Once it was not they may rescue what runs here, and nothing more is to be claimed.
        """
        age = self.beat_age()
        return age is not None and age < self.options.max_age

    def loop_lag(self) -> float:
        """Seconds that the jobs' loop takes to answer, or has not answered for."""
        asked = self.watch.asked
        return self.watch.lag if asked is None else time.monotonic() - asked[1]

    def beat_soon(self) -> None:
        """Have the others know what has just changed."""
        if self.refresher:
            self.thread.call(self.refresher.alarm.wake)

    def beat_in(self, delay: float) -> None:
        """Look again when something is over, unless the next beat comes before."""
        if self.refresher and delay < self.options.interval:
            self.main.call_later(delay, self.beat_soon)

    async def beat(self) -> None:
        """Have the others know it, and return when they can; soon after, when they cannot."""
        answered = asyncio.get_running_loop().create_future()
        self.waiting.append((self.taken_count + 1, answered))
        self.beat_soon()
        await asyncio.wait([answered], timeout=ANNOUNCING)

    # On the jobs' loop

    def take(self) -> Snapshot:
        self.taken_count += 1
        pulses = [producer.pulse() for producer in self.body.queue_loops()]
        self.uuids.update(pulse.identity.uuid for pulse in pulses)
        facts = {
            "polling": self.body.hearing,
            "leader": self.leader.is_leader,
            "pid": os.getpid(),
            "version": version(),
            "memory": memory(),
        }
        return Snapshot(self.taken_count, pulses, facts)

    def hear(self) -> None:
        if self.unheard:
            beat, told = self.unheard.pop()
            now = time.monotonic()
            since, self.heard_at = now - self.heard_at, now
            self.wake_recorded({pulse.identity.uuid for pulse in told.pulses}, since)
            self.body.hear_beat(beat)
            for wanted, answered in self.waiting:
                if wanted <= told.number and not answered.done():
                    answered.set_result(None)
            self.waiting = [each for each in self.waiting if not each[1].done()]

    def wake_recorded(self, uuids: set[str], since: float) -> None:
        """A queue that was started meanwhile, or all after a silence, may claim from now on."""
        known = self.recorded if since < self.options.max_age else set()
        for producer in self.body.queue_loops():
            if producer.identity.uuid in uuids - known:
                producer.wake()
        self.recorded = uuids

    # On the thread

    async def live(self, is_up: Callable[[], None], leave: asyncio.Event) -> None:
        patience = max(SHORTEST_PATIENCE, self.options.interval)
        session = self.engine.session(BEAT_LABEL, patience)
        lifeline = Lifeline(
            self.engine,
            OccasionalSession(self.engine.session(RESCUE_LABEL)),
            self.lifeline_options,
            self.options.interval,
        )
        clock, boot = Clock(), Boot(self.name, self.leader.candidate)
        scheduler = Scheduler(
            self.engine,
            OccasionalSession(self.engine.session(SCHEDULE_LABEL)),
            self.scheduler_options,
            self.leader,
            name=self.name,
            clock=clock,
            booted=lambda: boot.first is True,
            vault=self.vault,
        )
        pruner = Pruner(
            self.engine,
            OccasionalSession(self.engine.session(PRUNE_LABEL)),
            self.pruner_options,
            self.leader,
            counts=self.metrics_options.enabled,
        )

        def observe(beat: Beat, at: float) -> None:
            clock.set(beat.at, at)
            boot.observe(beat.others, beat.lease, at)
            lifeline.observe(beat.others, at)

        self.refresher = Refresher(
            self.engine,
            session,
            self.options,
            self.watch,
            self.leader,
            name=self.name,
            hear=self.pass_on,
            observe=observe,
        )
        reporter = Reporter(
            self.engine,
            OccasionalSession(self.engine.session(METRICS_LABEL)),
            self.metrics_options,
            self.leader.node,
            self.meter,
        )
        counting = self.engine.session(COUNT_LABEL)
        counter = Counter(
            self.engine,
            counting,
            self.metrics_options,
            self.leader,
            is_quiet=self.meter.is_empty,
        )
        loops: list[Loop] = [self.refresher, lifeline]
        if self.leader.candidate is not None:
            loops += [scheduler, pruner]
        if self.metrics_options.enabled:
            loops += [reporter] if self.leader.candidate is None else [reporter, counter]
        tasks: list[asyncio.Task[None]] = []
        try:
            await self.refresher.tick()
            is_up()
            tasks = [asyncio.create_task(loop.run()) for loop in loops]
            await self.until_told(leave)
        finally:
            for loop in loops:
                loop.end()
            if tasks:
                await asyncio.wait(tasks, timeout=SIGNING_OFF)
            is_answered = all(task.done() for task in tasks[:1])  # the beats share its session
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)  # a session serves one at a time
            with contextlib.suppress(Exception):  # nobody waits for what it still had to tell
                async with asyncio.timeout(SIGNING_OFF):
                    await reporter.tell()
            if is_answered:
                with contextlib.suppress(Exception):  # a record that stays is forgotten after a day
                    async with asyncio.timeout(SIGNING_OFF):
                        await self.sign_off(session)
            await counting.close()
            await session.close()

    async def until_told(self, leave: asyncio.Event) -> None:
        """Return when asked to leave, or when the loop of the jobs was closed without that."""
        while not (leave.is_set() or self.main.is_closed()):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.options.interval):
                    await leave.wait()

    async def sign_off(self, session: Session) -> None:
        leader = self.leader
        if leader.candidate is not None and leader.is_leader:
            leader.until = -math.inf
            await session.execute(self.engine.resign(self.name, leader.node, leader.candidate))
        # A turn of unknown fate may commit a claim yet: its producer stays known as ours.
        unsettled = {each.identity.uuid for each in self.body.queue_loops() if each.unsettled}
        await session.execute(self.engine.forget(sorted(self.uuids - unsettled)))

    def pass_on(self, beat: Beat, told: Snapshot) -> None:
        self.unheard.append((beat, told))
        self.main.call_soon_threadsafe(self.hear)

    def culprit(self, task: "asyncio.Task[object] | None") -> Job | None:
        """The job whose code the task is."""
        for producer in list(self.body.queue_loops()):
            for run in list(producer.slots.runs.values()):
                if run.task is task:
                    return run.job
        return None
