"""One queue on one node: acknowledges what ended, claims for the free slots, starts the jobs.

A turn does the first two in one round trip. What keeps it honest:

- No claim is sent while the fate of an earlier ack is unknown, so that `(id, attempt, uuid)` never
  names two runs.
- After a turn whose fate is unknown the lost session is ended, the acks are sent once more, and
  what executes under this uuid without running here is given back.
- A batch of acks that the database refuses is split until the bad one stands alone.
"""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from oban import telemetry
from oban.backoff import outage_backoff
from oban.engines.base import Engine, ProducerIdentity, Turn
from oban.errors import DataRefused
from oban.job import Job
from oban.options import QueueOptions
from oban.outcome import Ack, AttemptKey
from oban.running.executor import Executor, describe, failed, given_back
from oban.running.loop import Alarm
from oban.running.run import Run, StopReason

#: Acks in one statement; more wait for the next turn.
MAX_ACKS: Final = 5_000
#: Claims in one statement, however many slots are free.
MAX_DEMAND: Final = 5_000
#: The part of the shutdown grace, and the most seconds of it, kept for ending what was stopped.
SETTLE_SHARE: Final = 0.2
SETTLE_MOST: Final = 1.0


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """What a queue does on one node."""

    limit: int
    meta: dict[str, object]
    node: str
    paused: bool
    queue: str
    running: list[int]
    started_at: datetime
    uuid: str


class Producer:
    def __init__(
        self,
        engine: Engine,
        executor: Executor,
        options: QueueOptions,
        *,
        name: str,
        node: str,
        queue: str,
        cancel_grace_period: float,
    ) -> None:
        self.engine = engine
        self.executor = executor
        self.identity = ProducerIdentity(str(uuid.uuid4()), name, node, queue)
        self.session = engine.session(self.identity.label)
        self.limit = options.limit
        self.paused = options.paused
        self.debounce_interval = options.debounce_interval
        self.cancel_grace_period = cancel_grace_period
        self.started_at = datetime.now(UTC)
        self.alarm = Alarm()
        self.runs: dict[AttemptKey, Run] = {}
        self.acks: list[Ack] = []
        #: Runs that may have been cancelled: their rows are read before anything is stopped.
        self.suspects: set[AttemptKey] = set()
        #: Whether a turn was sent whose answer never came.
        self.unsettled = False
        self.stopping = False
        self.idle = asyncio.Event()
        self.idle.set()
        self.last_turn = 0.0

    # What others tell it. No I/O: each only sets what the next turn looks at.

    def wake(self) -> None:
        self.alarm.wake()

    def suspect(self, job_id: int | None = None) -> None:
        """A running job may have been cancelled: the one named, or any."""
        keys = [key for key in self.runs if job_id is None or key[0] == job_id]
        if keys:
            self.suspects.update(keys)
            self.wake()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        self.wake()

    def scale(self, limit: int) -> None:
        self.limit = limit
        self.wake()

    def info(self) -> QueueInfo:
        return QueueInfo(
            limit=self.limit,
            meta={},
            node=self.identity.node,
            paused=self.paused,
            queue=self.identity.queue,
            running=sorted(identity for identity, _ in self.runs),
            started_at=self.started_at,
            uuid=self.identity.uuid,
        )

    # The loop

    async def open(self) -> None:
        """Record that this producer is ours: before that it may not claim."""
        await self.session.execute(self.engine.register(self.identity))
        self.wake()

    async def run(self) -> None:
        """Take turns until stopped and empty. A turn that fails is an event and a backoff."""
        failures = 0
        while not (self.stopping and not self.runs and not self.acks):
            await self.alarm.rest(None)
            await self.debounce()
            try:
                await self.work()
                failures = 0
            except Exception as error:  # noqa: BLE001  # a failing query never ends the queue
                failures += 1
                await self.back_off(failures, error)

    async def debounce(self) -> None:
        """Let a burst of notifications become one turn; the first of them is not kept waiting."""
        if self.acks or self.suspects or self.stopping:
            return
        since = asyncio.get_running_loop().time() - self.last_turn
        if since < self.debounce_interval:
            await asyncio.sleep(self.debounce_interval - since)

    async def back_off(self, failures: int, error: Exception) -> None:
        delay = outage_backoff(failures)
        telemetry.execute(
            "oban.producer.outage",
            {
                "queue": self.identity.queue,
                "failures": failures,
                "delay": delay,
                **telemetry.describe_error(error),
            },
        )
        await asyncio.sleep(delay)
        self.wake()

    async def work(self) -> None:
        if self.unsettled:
            await self.settle()
        if self.suspects:
            await self.stop_suspects()
        acks = self.acks[:MAX_ACKS]
        demand = self.demand(len(self.acks) - len(acks))
        if acks or demand:
            await self.turn(acks, demand)

    def demand(self, unsent: int) -> int:
        """How many jobs to claim; a row whose ack is not sent along still takes a slot."""
        if self.paused or self.stopping:
            return 0
        return min(MAX_DEMAND, max(0, self.limit - len(self.runs) - unsent))

    async def turn(self, acks: Sequence[Ack], demand: int) -> None:
        self.last_turn = asyncio.get_running_loop().time()
        try:
            turn = await self.exchange(acks, demand)
        except DataRefused:
            if not acks:
                raise
            await self.isolate(acks)
            self.wake()
            return
        self.drop(acks, turn)
        for job in turn.claimed:
            if self.stopping:  # it began while this turn was under way
                self.acks.append(given_back(job))
            else:
                self.start(job)
        if self.acks or (demand and len(turn.claimed) == demand and self.demand(0)):
            self.wake()

    async def exchange(self, acks: Sequence[Ack], demand: int) -> Turn:
        """One round trip. Whatever cuts it short leaves its fate to be settled first."""
        queue = self.identity.queue
        operation = self.engine.turn(self.identity, acks, demand)
        settled = False
        try:
            with (
                telemetry.span("oban.producer.ack", {"queue": queue}) as ack_span,
                telemetry.span("oban.producer.get", {"queue": queue}) as get_span,
            ):
                turn = await self.session.execute(operation)
                ack_span.add({"count": len(turn.acknowledged)})
                get_span.add({"count": len(turn.claimed)})
            settled = True
            return turn
        except DataRefused:
            settled = True  # the server answered: all of it was undone
            raise
        finally:
            self.unsettled = self.unsettled or not settled

    def drop(self, acks: Sequence[Ack], turn: Turn) -> None:
        """Forget acks that were answered. One that was not ours any more is an event."""
        sent = {ack.key for ack in acks}
        self.acks = [ack for ack in self.acks if ack.key not in sent]
        for ack in acks:
            if ack.id not in turn.acknowledged:
                telemetry.execute(
                    "oban.producer.stale",
                    {"queue": self.identity.queue, "job_id": ack.id, "attempt": ack.attempt,
                     "state": ack.state},
                )  # fmt: skip

    async def isolate(self, acks: Sequence[Ack]) -> None:
        """Save a refused batch by halves; what is refused alone is saved without its details."""
        if len(acks) == 1:
            await self.save_bare(acks[0])
            return
        middle = len(acks) // 2
        for half in (acks[:middle], acks[middle:]):
            try:
                self.drop(half, await self.exchange(half, 0))
            except DataRefused:
                await self.isolate(half)

    async def save_bare(self, ack: Ack) -> None:
        try:
            self.drop([ack], await self.exchange([ack], 0))
        except DataRefused as refusal:
            note = describe(refusal)
            telemetry.execute(
                "oban.producer.refused",
                {"queue": self.identity.queue, "job_id": ack.id, "state": ack.state, "error": note},
            )
            error = note if ack.error is None else f"(replaced, the database refused it)\n{note}"
            bare = replace(ack, error=error, meta=None)
            self.drop([bare], await self.exchange([bare], 0))

    async def settle(self) -> None:
        """Find out what a turn of unknown fate has done, before anything is claimed again."""
        await self.session.execute(self.engine.end_lost_turns(self.identity))
        if acks := list(self.acks):
            try:
                self.drop(acks, await self.exchange(acks, 0))
            except DataRefused:
                await self.isolate(acks)
        returned = await self.give_back([*self.runs, *(ack.key for ack in self.acks)])
        self.unsettled = False
        if returned:
            telemetry.execute(
                "oban.producer.reconcile",
                {"queue": self.identity.queue, "given_back": returned},
            )
            self.wake()

    async def give_back(self, kept: Sequence[AttemptKey]) -> list[int]:
        return await self.session.execute(self.engine.give_back(self.identity, kept))

    # The runs

    def start(self, job: Job) -> None:
        run = Run(job)
        self.runs[run.key] = run
        self.idle.clear()
        run.task = asyncio.create_task(self.executor.execute(run), name=f"oban job {job.id}")
        run.task.add_done_callback(lambda task: self.finish(run, task))

    def finish(self, run: Run, task: asyncio.Task[Ack]) -> None:
        del self.runs[run.key]
        self.suspects.discard(run.key)
        if not task.cancelled():
            error = task.exception()
            self.acks.append(task.result() if error is None else failed(run.job, error))
        elif not run.threaded:
            # From outside: the program ends. The code runs no more, so the job may go back; that of
            # a thread does, and its row is left to the rescue.
            self.acks.append(given_back(run.job))
        if not self.runs:
            self.idle.set()
        self.wake()

    async def stop_suspects(self) -> None:
        """Read the rows of suspected runs and stop those that are no longer ours to run."""
        suspected = {key: self.runs[key] for key in self.suspects if key in self.runs}
        self.suspects.clear()
        try:
            stopped = await self.session.execute(
                self.engine.stopped(self.identity, list(suspected))
            )
        except BaseException:
            self.suspects.update(suspected)
            raise
        for key in stopped:
            # The same run object: an attempt given back and claimed again is another run.
            if (run := suspected[key]) is self.runs.get(key) and run.stop is None:
                run.ask_to_stop(StopReason.CANCELLED)
                asyncio.get_running_loop().call_later(self.cancel_grace_period, self.force, run)

    def force(self, run: Run) -> None:
        """The grace is over. A thread, or code that swallows cancellation, keeps its slot."""
        if self.runs.get(run.key) is not run:
            return
        if not run.force() or run.task.cancelling() > 1:
            telemetry.execute("oban.producer.stuck", {"queue": self.identity.queue, "job": run.job})
            return
        asyncio.get_running_loop().call_later(self.cancel_grace_period, self.force, run)

    # Stopping

    async def stop(self, loop_task: "asyncio.Task[None]", grace: float, *, exiting: bool) -> None:
        """Claim no more, let jobs finish within `grace` seconds, give back what is left.

        `exiting` says that the process ends right after: then even code that could not be stopped
        ends with it, and its job is given back too. Otherwise its row is left to the rescue.
        """
        self.stopping = True
        self.wake()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        settle = min(SETTLE_MOST, grace * SETTLE_SHARE)
        await self.wait_idle(deadline - settle)
        for run in list(self.runs.values()):
            run.ask_to_stop(StopReason.SHUTDOWN)
            run.force()
        await self.wait_idle(deadline - settle / 2)
        try:
            async with asyncio.timeout_at(max(deadline, loop.time() + SETTLE_MOST / 2)):
                if not self.runs:
                    await loop_task
                else:
                    loop_task.cancel()
                    await asyncio.wait([loop_task])
                    await self.work()
                await self.give_back([] if exiting else list(self.runs))
                await self.session.execute(self.engine.forget(self.identity))
        except Exception as error:  # noqa: BLE001  # the database may be away: the rescue finds it
            telemetry.execute(
                "oban.producer.outage",
                {"queue": self.identity.queue, **telemetry.describe_error(error)},
            )
        finally:
            loop_task.cancel()
            await asyncio.wait([loop_task])
            await self.session.close()

    async def wait_idle(self, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self.idle.wait()
        except TimeoutError:
            pass
