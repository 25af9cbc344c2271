"""What keeps a node among the living: its heartbeat and its lifeline, on a thread of their own."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection
from typing import Final

from oban.engines.base import Engine
from oban.engines.values import Beat
from oban.job import Job
from oban.options import LifelineOptions, RefresherOptions
from oban.running.lifeline import Lifeline
from oban.running.loop_watch import PATIENCE, LoopWatch
from oban.running.producer import Producer
from oban.running.refresher import Refresher, Snapshot
from oban.running.side_thread import SideThread

BEAT_LABEL: Final = "oban heartbeat"
RESCUE_LABEL: Final = "oban lifeline"
#: Seconds that a beat waits for its answer at least.
SHORTEST_PATIENCE: Final = 2.0
#: Seconds that whoever waits for a beat waits at most.
ANNOUNCING: Final = 2.0
#: Seconds that signing off may take.
SIGNING_OFF: Final = 1.0


class Heart:
    """Beats from `open` until `close`, then forgets the producers that no job needs any more.

    Opening returns after the first beat, which records the producers as ours: before that they may
    not claim.
    """

    def __init__(
        self,
        engine: Engine,
        refresher: RefresherOptions,
        lifeline: LifelineOptions,
        producers: Callable[[], Collection[Producer]],
    ) -> None:
        self.engine = engine
        self.options = refresher
        self.lifeline_options = lifeline
        self.producers = producers
        self.thread = SideThread("oban heartbeat", self.live)
        self.refresher: Refresher | None = None
        #: The newest beat, until the jobs' loop has looked at it.
        self.unheard: deque[tuple[Beat, int]] = deque(maxlen=1)
        #: Who waits for a beat that tells of a snapshot with that number, or a later one.
        self.waiting: list[tuple[int, asyncio.Future[None]]] = []
        self.taken_count = 0
        self.uuids: set[str] = set()

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

    def beat_soon(self) -> None:
        """Have the others know what has just changed."""
        if self.refresher:
            self.thread.call(self.refresher.alarm.wake)

    async def beat(self) -> None:
        """Have the others know it, and return when they can; soon after, when they cannot."""
        answered = asyncio.get_running_loop().create_future()
        self.waiting.append((self.taken_count + 1, answered))
        self.beat_soon()
        await asyncio.wait([answered], timeout=ANNOUNCING)

    # On the jobs' loop

    def take(self) -> Snapshot:
        self.taken_count += 1
        pulses = [producer.pulse() for producer in self.producers()]
        self.uuids.update(pulse.identity.uuid for pulse in pulses)
        return Snapshot(self.taken_count, pulses)

    def hear(self) -> None:
        if self.unheard:
            beat, number = self.unheard.pop()
            for producer in self.producers():
                uuid = producer.identity.uuid
                producer.hear_beat(beat.lost.get(uuid, ()), astray=uuid in beat.astray)
            for wanted, answered in self.waiting:
                if wanted <= number and not answered.done():
                    answered.set_result(None)
            self.waiting = [each for each in self.waiting if not each[1].done()]

    # On the thread

    async def live(self, is_up: Callable[[], None], leave: asyncio.Event) -> None:
        patience = max(SHORTEST_PATIENCE, self.options.interval)
        session = self.engine.session(BEAT_LABEL, patience)
        lifeline = Lifeline(
            self.engine,
            self.engine.session(RESCUE_LABEL),
            self.lifeline_options,
            self.options.interval,
        )
        self.refresher = Refresher(
            self.engine,
            session,
            self.options,
            self.watch,
            hear=self.pass_on,
            observe=lifeline.observe,
        )
        tasks: list[asyncio.Task[None]] = []
        try:
            await self.refresher.tick()
            is_up()
            tasks = [asyncio.create_task(self.refresher.run()), asyncio.create_task(lifeline.run())]
            await leave.wait()
        finally:
            self.refresher.end()
            lifeline.end()
            if tasks:
                await asyncio.wait(tasks, timeout=SIGNING_OFF)
            for task in tasks:
                task.cancel()
            with contextlib.suppress(Exception):  # a record that stays is forgotten after a day
                async with asyncio.timeout(SIGNING_OFF):
                    await session.execute(self.engine.forget(sorted(self.uuids)))
            await session.close()

    def pass_on(self, beat: Beat, number: int) -> None:
        self.unheard.append((beat, number))
        self.main.call_soon_threadsafe(self.hear)

    def culprit(self, task: "asyncio.Task[object] | None") -> Job | None:
        """The job whose code the task is."""
        for producer in list(self.producers()):
            for run in list(producer.runs.values()):
                if run.task is task:
                    return run.job
        return None
