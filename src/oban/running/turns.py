"""A producer's conversation with the database: what it has to say, and what is certain.

A turn saves how attempts ended and claims jobs in one round trip. What keeps that honest:

- No claim is sent while the fate of an earlier ack is unknown, so that `(id, attempt, uuid)` never
  names two runs.
- After a turn whose fate is unknown the lost session is ended, the acks are sent once more, and
  what executes under this uuid without running here is given back.
- A batch of acks that the database refuses is split until the bad one stands alone.
- An ack whose row is locked by somebody else waits without keeping the others waiting.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from oban import telemetry
from oban.engines.base import Engine
from oban.engines.runs import Head, Place, ProducerIdentity, Turn
from oban.errors import DataRefused
from oban.job import Job
from oban.limits import Limits, QueueLimits
from oban.outcome import Ack, AttemptKey
from oban.states import AVAILABLE

#: Acks in one statement; more wait for the next turn.
MAX_ACKS: Final = 5_000
#: Claims in one statement, however many slots are free.
MAX_DEMAND: Final = 5_000
#: Seconds that finding the first job of a queue takes where nothing lies in the way, at most.
LITTERED: Final = 0.004
#: Seconds for which it holds where a queue begins.
START_AGE: Final = 2.0
#: Seconds for which limits are taken to be known to all.
LIMITS_AGE: Final = 10.0
#: Seconds for which claims mind lanes after there were jobs in one.
LANED_AGE: Final = 60.0
#: Seconds for which the jobs of a limit are passed over whose first is too heavy for it.
SKIPPED_AGE: Final = 0.25
#: Seconds until an outcome is sent again that the database refuses.
REFUSED_REST: Final = 60.0


class Turns:
    def __init__(
        self,
        engine: Engine,
        identity: ProducerIdentity,
        limits: QueueLimits,
        shared: Mapping[str, Limits],
        hear_due_in: Callable[[float], None],
    ) -> None:
        self.engine = engine
        self.identity = identity
        #: Is told in how many seconds a job that was just saved is due again.
        self.hear_due_in = hear_due_in
        #: What holds over all nodes, and the limits that its jobs may share with those of other
        #: queues. Where there are none a turn takes the shorter way.
        self.limits = limits
        self.shared = shared
        #: When it was last told to all what holds, where somebody might not have.
        self.opened_at = -math.inf
        #: Until when jobs are taken to stand in lanes, whatever this node knows of limits.
        self.laned_until = -math.inf
        #: The lane behind which the next claim looks on.
        self.from_lane: str | None = None
        #: Shared limits whose jobs are passed over for a moment, since the first are too heavy.
        self.skipped: frozenset[str] = frozenset()
        self.skipped_until = -math.inf
        #: Whether jobs of the queue pass a rate that it shares with others, by the last claim.
        self.is_rated = False
        #: Shared limits that were missed, and when they were last; each is told of once.
        self.unknown_limits: dict[str, float] = {}
        #: Seconds until time allows more, by the last turn.
        self.again_in: float | None = None
        self.session = engine.session(identity.label)
        #: What has ended and is not known to be saved.
        self.acks: list[Ack] = []
        #: Of these, what the last turn could not save because somebody else has locked the row.
        self.held: frozenset[AttemptKey] = frozenset()
        #: Outcomes that the database refuses even bare, and when they are tried again. Their rows
        #: stay as they are: given back they would run again, time after time.
        self.refused: dict[AttemptKey, Ack] = {}
        self.refused_until = math.inf
        #: Whether something was sent whose answer never came.
        self.unanswered = False
        #: Whether attempts are said to have gone astray, by somebody who may say so at any time.
        self.astray = False
        #: Where claims begin while what was claimed before litters the way, None where it does not.
        self.start: Place | None = None
        self.start_until = -math.inf
        #: Claims up to this time of the database's clock were handed on.
        self.processed_at: datetime | None = None

    async def close(self) -> None:
        await self.session.close()

    @property
    def unsettled(self) -> bool:
        """Whether `settle` is to come before anything else."""
        return self.unanswered or self.astray

    async def take(self, slots: int) -> tuple[Job, ...]:
        """Save what waits and claim for `slots`; return what was claimed, in order of start.

        A row whose ack has to wait for the next turn still takes its slot.
        """
        self.retry_refused()
        acks = self.acks[:MAX_ACKS]
        demand = min(MAX_DEMAND, max(0, slots - (len(self.acks) - len(acks))))
        if not acks and not demand:
            return ()
        try:
            turn = await self.exchange(acks, demand)
        except DataRefused:
            if not acks:
                raise
            await self.isolate(acks)
            return (await self.exchange((), demand)).claimed if demand else ()
        self.drop(acks, turn)
        return turn.claimed

    def unsaved(self) -> list[Ack]:
        """What has ended here and may be executing by its row."""
        return [*self.acks, *self.refused.values()]

    def gives_back(self) -> bool:
        """Whether jobs go back with the next turn, but for those whose row somebody has locked."""
        return any(ack.state is AVAILABLE and ack.key not in self.held for ack in self.acks)

    def ready(self) -> bool:
        """Whether there is something to save that need not wait for somebody else."""
        return any(ack.key not in self.held for ack in self.acks)

    def refused_rest(self) -> float | None:
        """Seconds until refused outcomes are tried again, None where there are none."""
        return max(0.0, self.refused_until - time.monotonic()) if self.refused else None

    def retry_refused(self) -> None:
        """Somebody may have mended what the database had against them."""
        if time.monotonic() >= self.refused_until:
            self.acks += self.refused.values()
            self.refused.clear()
            self.refused_until = math.inf

    async def exchange(self, acks: Sequence[Ack], demand: int) -> Turn:
        """One round trip. Whatever cuts it short leaves its fate to be settled first."""
        queue = {"queue": self.identity.queue}
        if any(ack.state is AVAILABLE for ack in acks):
            self.start = None  # what goes back stands before it
        start = self.start if time.monotonic() < self.start_until else None
        is_limited = self.are_limited or any(ack.slows is not None for ack in acks)
        operation = self.engine.turn(
            self.identity,
            acks,
            demand,
            start,
            self.limits if is_limited else None,
            from_lane=self.from_lane,
            skipped=sorted(self.skipped) if time.monotonic() < self.skipped_until else (),
        )
        before, self.unanswered = self.unanswered, True
        try:
            with (
                telemetry.span("oban.producer.ack", queue) as ack_span,
                telemetry.span("oban.producer.get", queue) as get_span,
            ):
                turn = await self.session.execute(operation)
                ack_span.add({"count": len(turn.acknowledged)})
                get_span.add({"count": len(turn.claimed)})
        except DataRefused:
            self.unanswered = before  # the server answered: all of it was undone
            raise
        self.unanswered = before
        self.again_in = turn.again_in
        if demand:
            self.learn(turn)
        if delays := [ack.delay for ack in acks if ack.delay is not None]:
            self.hear_due_in(min(delays))
        if turn.claimed and start is not None and self.start is start:
            self.start = turn.last
        return turn

    @property
    def are_limited(self) -> bool:
        """Whether claims have limits to pass."""
        return (
            bool(self.limits)
            or bool(self.shared)
            or self.limits.partition is not None
            or time.monotonic() < self.laned_until
        )

    async def open_limits(self) -> None:
        """Say what holds once in a while: somebody may have emptied a table.

        What others say instead is left alone; the node that started last has the say.
        """
        now = time.monotonic()
        if self.are_limited and now - self.opened_at > LIMITS_AGE:
            opening = self.engine.open_limits(
                self.identity.queue, self.limits.partition, self.shared, overrule=False
            )
            await self.session.execute(opening)
            self.opened_at = now

    def learn(self, turn: Turn) -> None:
        """What a claim within limits says of the next one."""
        now = time.monotonic()
        self.from_lane = turn.last_lane
        self.is_rated = turn.is_rated
        if turn.refusing:
            held = self.skipped if now < self.skipped_until else frozenset()
            self.skipped, self.skipped_until = held.union(turn.refusing), now + SKIPPED_AGE
        # Jobs wait for limits that nobody has defined: somebody should know.
        known = {name: at for name, at in self.unknown_limits.items() if now - at < LANED_AGE}
        if missed := sorted(set(turn.unknown_limits) - set(known)):
            metadata = {"queue": self.identity.queue, "limits": missed}
            telemetry.execute("oban.producer.unknown_limits", metadata)
        self.unknown_limits = {**known, **dict.fromkeys(turn.unknown_limits, now)}

    def hear_head(self, head: Head) -> None:
        """Where the queue was found to begin, by who looks for that once in a while.

        Each claim walks over the index entries of what was claimed since the oldest transaction of
        the database began. Where finding one job takes long, the next claims begin behind the last;
        a job that came to stand before them is found with the next look, and soon if none comes.
        """
        if head.is_laned:
            self.laned_until = time.monotonic() + LANED_AGE
        self.start = head.place if head.sought_for > LITTERED else None
        self.start_until = time.monotonic() + START_AGE

    def drop(self, acks: Sequence[Ack], turn: Turn) -> None:
        """Forget acks that were answered. One that was not ours any more is an event.

        One whose row was locked waits behind the others.
        """
        self.remove(acks)
        held = [ack for ack in acks if ack.id in turn.held]
        self.acks += held
        self.held = frozenset(ack.key for ack in held)
        if self.unanswered:
            return  # sent a second time: one that is missing now was saved by the first
        for ack in acks:
            if ack.id not in turn.acknowledged and ack.id not in turn.held:
                self.tell("stale", ack)

    def remove(self, acks: Sequence[Ack]) -> None:
        answered = {ack.key for ack in acks}
        self.acks = [ack for ack in self.acks if ack.key not in answered]

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
        """Save the outcome, which never changes, with a note in the place of its details."""
        try:
            self.drop([ack], await self.exchange([ack], 0))
        except DataRefused as refusal:
            self.tell("refused", ack, error=str(refusal))
            told = f"the database refused the details: {refusal}"
            bare = replace(ack, error=told, meta=None, slows=None)
            try:
                self.drop([bare], await self.exchange([bare], 0))
            except DataRefused as final:
                # It must not hold up the others.
                self.remove([bare])
                self.refused[bare.key] = bare
                self.refused_until = time.monotonic() + REFUSED_REST
                self.tell("refused", bare, error=str(final))

    async def settle(self, running: Iterable[AttemptKey]) -> bool:
        """Find out what a turn of unknown fate has done, before anything is claimed again.

        Returns whether attempts were given back, which can be claimed now.
        """
        await self.session.execute(self.engine.end_lost_turns(self.identity))
        if acks := list(self.acks):
            try:
                self.drop(acks, await self.exchange(acks, 0))
            except DataRefused:
                await self.isolate(acks)
        kept = [*running, *(ack.key for ack in self.unsaved())]
        self.unanswered, self.astray = True, False  # it may be said again meanwhile
        returned = await self.session.execute(self.engine.give_back(self.identity, kept))
        self.unanswered = False
        if returned:
            metadata = {"queue": self.identity.queue, "given_back": returned}
            telemetry.execute("oban.producer.reconcile", metadata)
        return bool(returned)

    async def stopped(self, running: Sequence[AttemptKey]) -> frozenset[AttemptKey]:
        """Of `running`, what is no longer ours to run, by its row."""
        return await self.session.execute(self.engine.stopped(self.identity, running))

    async def leave(self, running: Sequence[AttemptKey]) -> None:
        """Give back all but `running`, and what has ended but is refused."""
        kept = [*running, *self.refused]
        await self.session.execute(self.engine.give_back(self.identity, kept))

    def tell(self, event: str, ack: Ack, **details: object) -> None:
        metadata = {
            "queue": self.identity.queue,
            "job_id": ack.id,
            "attempt": ack.attempt,
            "state": ack.state,
        }
        telemetry.execute(f"oban.producer.{event}", {**metadata, **details})
