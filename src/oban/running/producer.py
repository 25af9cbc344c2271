"""One queue on one node: claims for its slots, and saves how jobs ended."""

import asyncio
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from oban import telemetry
from oban.backoff import outage_backoff
from oban.engines.base import Engine
from oban.engines.nodes import Pulse
from oban.engines.runs import Head, ProducerIdentity
from oban.limits import Limits, QueueLimits
from oban.options import QueueOptions
from oban.outcome import Ack, AttemptKey
from oban.running.executor import Executor
from oban.running.loop import Alarm
from oban.running.slots import Slots
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
        shared_limits: Mapping[str, Limits],
        solitude: Solitude,
        is_believed_alive: Callable[[], bool],
        hear_due_in: Callable[[float], None],
    ) -> None:
        self.identity = ProducerIdentity(str(uuid.uuid4()), name, node, queue)
        self.turns = Turns(engine, self.identity, options.limits, shared_limits, hear_due_in)
        self.slots = Slots(
            queue,
            options,
            executor,
            solitude,
            cancel_grace_period=cancel_grace_period,
            is_resting=lambda: self.resting,
            ended=self.save,
        )
        #: Whether nobody has reason to rescue what is claimed here.
        self.is_believed_alive = is_believed_alive
        self.paused = options.paused
        self.debounce_interval = options.debounce_interval
        self.started_at = datetime.now(UTC)
        self.alarm = Alarm()
        #: Attempts that may have been cancelled: their rows are read before anything is stopped.
        self.suspects: set[AttemptKey] = set()
        self.shutdown_started_at: datetime | None = None
        self.last_turn = 0.0
        #: When time allows more.
        self.coming: asyncio.TimerHandle | None = None
        #: Whether the last claim brought all that it asked for: then there is probably more.
        self.is_more = False

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
        self.slots.limit = limit
        self.slots.give_back_waiting()
        self.wake()

    def limit(self, limits: QueueLimits) -> None:
        """What holds over all nodes from now on."""
        self.turns.limits = limits
        self.slots.limit_ahead(limits, is_rated=self.turns.is_rated)
        self.wake()

    def pause(self, paused: bool) -> None:
        self.paused = paused
        self.slots.give_back_waiting()
        self.wake()

    def save(self, ack: Ack) -> None:
        """An attempt has ended."""
        self.turns.acks.append(ack)
        self.wake()

    def suspect(self, job_id: int | None = None) -> None:
        """A job in hand may have been cancelled: the one named, or any."""
        keys = [key for key in self.slots.in_hand() if job_id is None or key[0] == job_id]
        if keys:
            self.suspects.update(keys)
            self.wake()

    def pulse(self) -> Pulse:
        """What the next heartbeat tells of this queue."""
        began = self.slots.begun()
        unsaved = self.turns.unsaved()
        ended = [ack.id for ack in unsaved]
        return Pulse(
            identity=self.identity,
            started_at=self.started_at,
            meta={
                "limit": self.slots.limit,
                "paused": self.paused,
                "global_limit": self.turns.limits.global_limit,
                "rate_limit": rate_of(self.turns.limits),
                "running": [*began, *ended],
                "running_count": len(began),
                "waiting_count": len(self.slots.ahead),
                "suspect": self.slots.solitude.suspect,
                "processed_at": timestamp(self.turns.processed_at),
                "shutdown_started_at": isoformat(self.shutdown_started_at),
            },
            in_hand=[*self.slots.in_hand(), *(ack.key for ack in unsaved)],
        )

    def hear_beat(self, lost: Collection[AttemptKey], *, astray: bool) -> None:
        """What a heartbeat found. It may be old by now: rows are read before anything is done."""
        self.suspects.update(lost)
        if astray:
            self.turns.astray = True
        if astray or self.suspects:
            self.wake()

    def info(self) -> QueueInfo:
        return QueueInfo(
            limit=self.slots.limit,
            meta={"waiting_count": len(self.slots.ahead)},
            node=self.identity.node,
            paused=self.paused,
            queue=self.identity.queue,
            running=self.slots.running(),
            started_at=self.started_at,
            uuid=self.identity.uuid,
        )

    # The loop

    async def run(self) -> None:
        """Take turns until stopped and empty. A turn that fails is an event and a backoff."""
        self.slots.owner = asyncio.current_task()
        self.wake()
        failures = 0
        while not self.is_done():
            is_waiting = self.turns.acks or self.stopping
            await self.alarm.rest(HELD_REST if is_waiting else self.turns.refused_rest())
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

    def is_done(self) -> bool:
        left = self.slots.runs or self.turns.acks or self.unsettled
        return self.stopping and not left

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
        return self.is_more and self.slots.are_free()

    async def work(self) -> None:
        """Everything there is to do now: settle, stop, acknowledge and claim."""
        if self.turns.unsettled and await self.turns.settle(self.slots.in_hand()):
            self.wake()
        if self.suspects:
            await self.stop_suspects()
        await self.turns.open_limits()
        self.last_turn = time.monotonic()
        self.slots.ahead.measure(self.last_turn)
        # What goes back is not there yet for a claim in the same statement, and comes first.
        goes_back = self.turns.gives_back()
        demand = 0 if goes_back else self.demand()
        claimed = await self.turns.take(demand)
        self.is_more = len(claimed) >= demand > 0
        self.come_again(self.turns.again_in)
        self.slots.limit_ahead(self.turns.limits, is_rated=self.turns.is_rated)
        if claimed:
            self.turns.processed_at = claimed[0].attempted_at  # one time for all of a turn
            if self.turns.gives_back():  # something has since, which stands before these
                self.slots.give_back(claimed)
            else:
                self.slots.put(claimed)
        has_more = self.is_more or self.turns.from_lane is not None
        if goes_back or self.turns.ready() or (has_more and self.demand()):
            self.wake()

    def come_again(self, seconds: float | None) -> None:
        """Look again when a rate allows more, or back-pressure ends."""
        if self.coming is not None:
            self.coming.cancel()
            self.coming = None
        if seconds is not None:
            loop = asyncio.get_running_loop()
            self.coming = loop.call_later(max(0.0, seconds), self.wake)

    def demand(self) -> int:
        return self.slots.demand() if self.is_believed_alive() else 0

    async def stop_suspects(self) -> None:
        """Read the rows of suspected attempts and stop those that are no longer ours to run.

        Nothing is given back and claimed again meanwhile, so the same attempt is the same run.
        """
        suspected = [key for key in self.slots.in_hand() if key in self.suspects]
        self.suspects.clear()
        if suspected:
            try:
                self.slots.stop(await self.turns.stopped(suspected))
            except BaseException:
                self.suspects.update(suspected)
                raise

    def tell_outage(self, error: BaseException, **details: object) -> None:
        metadata = {"queue": self.identity.queue, **telemetry.describe_error(error), **details}
        telemetry.execute("oban.producer.outage", metadata)

    # Stopping

    def drain(self) -> None:
        """Claim no more."""
        self.shutdown_started_at = self.shutdown_started_at or datetime.now(UTC)
        self.slots.give_back_waiting()
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
                if self.slots.runs:
                    loop_task.cancel()
                await asyncio.wait([loop_task])
                await self.work()
                while self.turns.acks:
                    await self.alarm.rest(HELD_REST)
                    await self.work()
                await self.turns.leave([] if exiting else list(self.slots.runs))
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
        await self.slots.wait_idle(deadline - settle)
        self.slots.shut_down()
        await self.slots.wait_idle(deadline - settle / 2)
        return deadline


def rate_of(limits: Limits) -> dict[str, float] | None:
    if limits.allowed is None or limits.period is None:
        return None
    return {"allowed": limits.allowed, "period": limits.period}


def timestamp(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def isoformat(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
