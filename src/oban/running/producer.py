"""One queue on one node: claims for the free slots, starts the jobs, stops those it must."""

import asyncio
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from oban import telemetry
from oban.backoff import outage_backoff
from oban.engines.base import Engine
from oban.engines.values import Head, ProducerIdentity, Pulse
from oban.job import Job
from oban.options import QueueOptions
from oban.outcome import Ack, AttemptKey
from oban.running.ahead import PATIENCE, Ahead
from oban.running.executor import Executor, failed, given_back, never_begun
from oban.running.loop import Alarm
from oban.running.run import Run, StopReason
from oban.running.solitude import Solitude
from oban.running.turns import Turns

#: The part of the shutdown grace, and the most seconds of it, kept for ending what was stopped.
SETTLE_SHARE: Final = 0.2
SETTLE_MOST: Final = 1.0
#: Seconds between two turns that nobody waits for.
PACE: Final = 0.005
#: Seconds until an ack is tried again whose row somebody else has locked.
HELD_REST: Final = 0.25


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
        solitude: Solitude,
        is_believed_alive: Callable[[], bool],
        hear_due_in: Callable[[float], None],
    ) -> None:
        self.executor = executor
        self.solitude = solitude
        #: Whether nobody has reason to rescue what is claimed here.
        self.is_believed_alive = is_believed_alive
        self.identity = ProducerIdentity(str(uuid.uuid4()), name, node, queue)
        self.turns = Turns(engine, self.identity, hear_due_in)
        self.limit = options.limit
        self.paused = options.paused
        self.debounce_interval = options.debounce_interval
        self.ahead = Ahead(options.claim_ahead)
        self.cancel_grace_period = cancel_grace_period
        self.started_at = datetime.now(UTC)
        self.alarm = Alarm()
        self.runs: dict[AttemptKey, Run] = {}
        #: Runs that may have been cancelled: their rows are read before anything is stopped.
        self.suspects: set[AttemptKey] = set()
        self.shutdown_started_at: datetime | None = None
        self.idle = asyncio.Event()
        self.idle.set()
        self.last_turn = 0.0
        #: Whether the last claim brought all that it asked for: then there is probably more.
        self.is_more = False
        self.loop_task: asyncio.Task[None] | None = None

    @property
    def stopping(self) -> bool:
        return self.shutdown_started_at is not None

    @property
    def unsettled(self) -> bool:
        """Whether something it has sent may be carried out yet."""
        return self.turns.unsettled

    @property
    def resting(self) -> bool:
        """Whether it starts nothing new."""
        return self.paused or self.stopping

    # What others tell it. No I/O: each only sets what the next turn looks at.

    def wake(self) -> None:
        self.alarm.wake()

    def hear_head(self, head: Head) -> None:
        """There are jobs, and here is the first."""
        self.turns.hear_head(head)
        self.wake()

    def scale(self, limit: int) -> None:
        self.limit = limit
        self.give_back_waiting()
        self.wake()

    def pause(self, paused: bool) -> None:
        self.paused = paused
        self.give_back_waiting()
        self.wake()

    def suspect(self, job_id: int | None = None) -> None:
        """A job in hand may have been cancelled: the one named, or any."""
        keys = [key for key in self.in_hand() if job_id is None or key[0] == job_id]
        if keys:
            self.suspects.update(keys)
            self.wake()

    def pulse(self) -> Pulse:
        """What the next heartbeat tells of this queue."""
        began = [run.job.id for run in self.runs.values() if run.began]
        unsaved = self.turns.unsaved()
        ended = [ack.id for ack in unsaved]
        return Pulse(
            identity=self.identity,
            started_at=self.started_at,
            meta={
                "limit": self.limit,
                "paused": self.paused,
                "running": [*began, *ended],
                "running_count": len(began),
                "waiting_count": len(self.ahead),
                "processed_at": timestamp(self.turns.processed_at),
                "shutdown_started_at": isoformat(self.shutdown_started_at),
            },
            in_hand=[*self.in_hand(), *(ack.key for ack in unsaved)],
        )

    def in_hand(self) -> list[AttemptKey]:
        """What is claimed and has not ended."""
        return [*self.runs, *self.ahead.keys()]

    def hear_beat(self, lost: Collection[AttemptKey], *, astray: bool) -> None:
        """What a heartbeat found. It may be old by now: rows are read before anything is done."""
        self.suspects.update(lost)
        if astray:
            self.turns.unsettled = True
        if astray or self.suspects:
            self.wake()

    def info(self) -> QueueInfo:
        return QueueInfo(
            limit=self.limit,
            meta={"waiting_count": len(self.ahead)},
            node=self.identity.node,
            paused=self.paused,
            queue=self.identity.queue,
            # A copy first: threads that watch this process ask as well.
            running=sorted(identity for identity, _ in list(self.runs)),
            started_at=self.started_at,
            uuid=self.identity.uuid,
        )

    # The loop

    async def run(self) -> None:
        """Take turns until stopped and empty. A turn that fails is an event and a backoff."""
        self.loop_task = asyncio.current_task()
        self.wake()
        failures = 0
        while not (self.stopping and not self.runs and not self.turns.acks and not self.unsettled):
            await self.alarm.rest(HELD_REST if self.turns.acks or self.stopping else None)
            await self.pace()
            try:
                await self.work()
                failures = 0
            except Exception as error:  # noqa: BLE001  # a failing query never ends the queue
                failures += 1
                delay = outage_backoff(failures)
                self.tell_outage(error, failures=failures, delay=delay)
                await asyncio.sleep(delay)
                self.wake()

    async def pace(self) -> None:
        """Let what nobody waits for gather: acks, and a burst of notifications after its first."""
        while not (self.suspects or self.stopping or self.unsettled or self.is_hungry()):
            interval = (
                min(PACE, self.debounce_interval) if self.turns.acks else self.debounce_interval
            )
            left = self.last_turn + interval - time.monotonic()
            if left <= 0:
                return
            await asyncio.sleep(min(left, PACE))

    def is_hungry(self) -> bool:
        """Whether slots are free and there are probably jobs for them."""
        return self.is_more and not self.ahead and len(self.runs) < self.limit

    async def work(self) -> None:
        """Everything there is to do now: settle, stop, acknowledge and claim."""
        if self.turns.unsettled and await self.turns.settle(self.in_hand()):
            self.wake()
        if self.suspects:
            await self.stop_suspects()
        self.last_turn = time.monotonic()
        self.ahead.measure(self.last_turn)
        demand = self.demand()
        claimed = await self.turns.take(demand)
        self.is_more = len(claimed) >= demand > 0
        self.hand_out(claimed)
        if self.turns.ready() or (self.is_more and self.demand()):
            self.wake()

    def demand(self) -> int:
        """How many more jobs to claim: for the free slots, and for those that will be."""
        if self.resting or self.solitude.closed or not self.is_believed_alive():
            return 0
        in_hand = len(self.runs) + len(self.ahead)
        return max(0, self.limit + self.ahead.room(self.limit) - in_hand)

    def hand_out(self, claimed: Sequence[Job]) -> None:
        """Start what was claimed, in order, and keep the rest for the slots to come."""
        if not claimed:
            return
        self.turns.processed_at = claimed[0].attempted_at  # one time for all of a turn
        now = time.monotonic()
        self.ahead.waiting.extend((job, now) for job in claimed)
        self.fill()
        if self.ahead:
            asyncio.get_running_loop().call_later(PATIENCE, self.look_at_waiting)

    def fill(self) -> None:
        """Start what waits, as far as slots are free."""
        if self.resting:  # commanded while the claim was under way
            self.give_back_waiting()
        while self.ahead and len(self.runs) < self.limit:
            job, _ = self.ahead.waiting.popleft()
            if not self.solitude.closed or self.solitude.wanted_for(job):
                self.start(job)
            else:
                self.turns.acks.append(given_back(job))

    def look_at_waiting(self) -> None:
        if self.ahead.is_overdue(time.monotonic()):
            self.give_back_waiting()

    def give_back_waiting(self) -> None:
        """Let others run what was claimed ahead."""
        if self.ahead:
            self.turns.acks += map(given_back, self.ahead.take_all())
            self.wake()

    def tell_outage(self, error: BaseException, **details: object) -> None:
        metadata = {"queue": self.identity.queue, **telemetry.describe_error(error), **details}
        telemetry.execute("oban.producer.outage", metadata)

    # The runs

    def start(self, job: Job) -> None:
        run = Run(job, owner=self.loop_task)
        self.runs[run.key] = run
        self.idle.clear()
        if self.solitude.admit(run):
            work = self.solitude.execute(run, self.executor.execute)
        else:
            work = self.executor.execute(run)
        loop = asyncio.get_running_loop()
        run.task = loop.create_task(work, name=f"oban job {job.id}")
        run.task.add_done_callback(partial(self.finish, run))

    def finish(self, run: Run, task: asyncio.Task[Ack]) -> None:
        if task.cancelled() and run.threaded:
            # The program ends and the thread's code runs on: it keeps slot and row, and the row is
            # left to the rescue.
            return
        self.solitude.release(run)
        del self.runs[run.key]
        self.suspects.discard(run.key)
        if task.cancelled():  # the program ends, and this code with it
            ack = given_back(run.job)
        else:
            error = task.exception()
            ack = task.result() if error is None else failed(run.job, error)
        self.turns.acks.append(ack)
        self.ahead.ended_count += 1
        self.look_at_waiting()
        self.fill()
        if not self.runs:
            self.idle.set()
        self.wake()

    async def stop_suspects(self) -> None:
        """Read the rows of suspected jobs and stop those that are no longer ours to run.

        Nothing is given back and claimed again meanwhile, so the same attempt is the same run.
        """
        suspected = [key for key in self.in_hand() if key in self.suspects]
        self.suspects.clear()
        try:
            stopped = await self.turns.stopped(suspected)
        except BaseException:
            self.suspects.update(suspected)
            raise
        for key in stopped:
            if run := self.runs.get(key):
                if run.stop is None:
                    run.ask_to_stop(StopReason.CANCELLED)
                    self.force_later(run)
            elif job := self.ahead.take_out(key):
                self.turns.acks.append(never_begun(job))

    def force_later(self, run: Run) -> None:
        asyncio.get_running_loop().call_later(self.cancel_grace_period, self.force, run)

    def force(self, run: Run) -> None:
        """The grace is over. A thread, or code that swallows cancellation, keeps its slot."""
        if self.runs.get(run.key) is not run:
            return
        if run.force() and run.task.cancelling() == 1:
            self.force_later(run)
        else:
            telemetry.execute("oban.producer.stuck", {"queue": self.identity.queue, "job": run.job})

    # Stopping

    def drain(self) -> None:
        """Claim no more."""
        self.shutdown_started_at = self.shutdown_started_at or datetime.now(UTC)
        self.give_back_waiting()
        self.wake()

    async def stop(self, loop_task: "asyncio.Task[None]", grace: float, *, exiting: bool) -> None:
        """Claim no more, let jobs finish within `grace` seconds, give back what is left.

        `exiting` says that the process ends right after: then even code that could not be stopped
        ends with it, and its job is given back too. Otherwise its row is left to the rescue.
        """
        deadline = await self.interrupt(grace)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(max(deadline, loop.time() + SETTLE_MOST / 2)):
                if self.runs:
                    loop_task.cancel()
                await asyncio.wait([loop_task])
                await self.work()
                while self.turns.acks:
                    await self.alarm.rest(HELD_REST)
                    await self.work()
                await self.turns.leave([] if exiting else list(self.runs))
        except Exception as error:  # noqa: BLE001  # the database may be away: the rescue finds it
            self.tell_outage(error)
        finally:
            loop_task.cancel()
            await asyncio.wait([loop_task])
            await self.turns.close()

    async def retire(self, loop_task: "asyncio.Task[None]", grace: float) -> None:
        """Stop for good in a process that goes on: code that cannot be stopped ends in its time.

        Until then it keeps its row and its place in the heartbeat, and its outcome is saved.
        """
        await self.interrupt(grace)
        await asyncio.wait([loop_task])
        await self.turns.close()

    async def interrupt(self, grace: float) -> float:
        """Let jobs finish for most of the grace period, then stop them; return when it is over."""
        self.drain()
        deadline = asyncio.get_running_loop().time() + grace
        settle = min(SETTLE_MOST, grace * SETTLE_SHARE)
        await self.wait_idle(deadline - settle)
        for run in list(self.runs.values()):
            run.ask_to_stop(StopReason.SHUTDOWN)
            run.force()
        await self.wait_idle(deadline - settle / 2)
        return deadline

    async def wait_idle(self, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self.idle.wait()
        except TimeoutError:
            pass


def timestamp(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def isoformat(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
