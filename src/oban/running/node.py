"""A node: what runs in a process that runs queues, or only leads, and what each part hears."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final

from oban import telemetry
from oban.engines.base import Engine
from oban.engines.nodes import Beat
from oban.engines.operation import Operation
from oban.engines.runs import Head
from oban.engines.signals import (
    Commanded,
    Deaf,
    Due,
    ForeignCommand,
    Inserted,
    Resigned,
    Resync,
    Signal,
    StackAsked,
    Stop,
    UniqueLost,
)
from oban.errors import DatabaseError
from oban.limits import Limits
from oban.options import Options, QueueOptions
from oban.running.broadcaster import Broadcaster
from oban.running.control import Control
from oban.running.executor import Executor
from oban.running.heart import Heart
from oban.running.leader import Leader
from oban.running.listener import Listener
from oban.running.meter import Meter
from oban.running.producer import Producer
from oban.running.queues import Queues
from oban.running.solitude import Solitude
from oban.running.stacks import stack_of
from oban.running.stager import Stager

STAGER_LABEL: Final = "oban stager"
BROADCAST_LABEL: Final = "oban broadcaster"
#: Why nothing is heard while a node starts, or where none runs.
NOT_YET: Final = "not listening yet"
#: Seconds that telling somebody where the code of a job is may take.
ANSWERING: Final = 2.0


class Node:
    """The parts of one run, wired together; it is opened once.

    The queues are made with it, so that the first beat records them, before any claim. That beat
    brings what was commanded of them, too.
    """

    def __init__(
        self,
        engine: Engine,
        executor: Executor,
        options: Options,
        *,
        grace: Callable[[], float],
        exiting: Callable[[], bool],
    ) -> None:
        self.engine = engine
        self.executor = executor
        self.options = options
        self.name = options.name
        self.node = options.node
        #: How it is to stop, asked for when it does: the seconds that jobs have to finish, and
        #: whether the process ends right after, see `Producer.stop`.
        self.grace = grace
        self.exiting = exiting
        #: Why no notifications are heard, None while they are.
        self.hearing: str | None = NOT_YET
        #: What is told to somebody just now; held here, so that it is not lost on the way.
        self.answers: set[asyncio.Task[None]] = set()
        #: Where what attempts took is kept until the heart tells it.
        self.meter = Meter()
        self.heart = Heart(
            engine,
            options,
            Leader(self.node, wanted=options.leads),
            self,
            vault=executor.vault,
            meter=self.meter,
        )
        self.solitude = Solitude(self.heart.beat, self.wake_queues)
        self.stager = Stager(
            engine,
            engine.session(STAGER_LABEL),
            options.stager,
            lambda: self.producers,
            self.hear_head,
            hearing=lambda: self.hearing is None,
        )
        self.queues = Queues(
            self.make_producer,
            options.queues,
            options.shutdown_grace_period,
            self.heart.beat_soon,
        )
        #: None on a node that only leads: it runs no queue, whatever is commanded.
        self.control = (
            Control(self.name, self.node, options.queues, self.queues) if options.queues else None
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """What runs, from top to bottom; stopping is the way back up."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.drop_answers)
            await stack.enter_async_context(background(Listener(self.engine, self.hear).run()))
            await stack.enter_async_context(self.beating())
            await stack.enter_async_context(self.staging())
            await stack.enter_async_context(self.broadcasting())
            await stack.enter_async_context(self.producing())
            yield

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        self.executor.meter = self.meter if self.options.metrics.enabled else None
        try:
            await self.heart.open()
            yield
        finally:
            await self.heart.close()
            self.executor.meter = None

    @asynccontextmanager
    async def staging(self) -> AsyncIterator[None]:
        self.stager.alarm.woken.clear()  # its first look finds all that was heard before
        try:
            async with background(self.stager.run()):
                yield
        finally:
            await self.stager.session.close()

    @asynccontextmanager
    async def broadcasting(self) -> AsyncIterator[None]:
        """While others are told of them, notes pass through who tells to who keeps them."""
        metrics = self.options.metrics
        if not (metrics.enabled and metrics.broadcast):
            yield
            return
        session = self.engine.session(BROADCAST_LABEL)
        self.executor.meter = Meter()
        broadcaster = Broadcaster(
            self.engine,
            session,
            self.options.scheduler,
            self.heart.leader,
            name=self.name,
            meter=self.executor.meter,
            keeper=self.meter,
            queue_loops=self.queue_loops,
        )
        try:
            async with background(broadcaster.run()):
                yield
        finally:
            broadcaster.pass_on()
            await session.close()

    @asynccontextmanager
    async def producing(self) -> AsyncIterator[None]:
        """All queues at once: they start together, and drain together within one grace period."""
        await self.say_limits()
        self.queues.open()
        try:
            yield
        finally:
            self.queues.drain()
            self.heart.beat_soon()  # a death from here on is no crash
            await self.queues.close(self.grace(), exiting=self.exiting())

    async def say_limits(self) -> None:
        """Tell all what divides the queues that are configured here, and what they share.

        Whoever starts last has the say. A queue that is only started by a command has none.
        """
        for queue, options in self.options.queues.items():
            partition = options.limits.partition
            opening = self.engine.open_limits(queue, partition, self.shared_limits, overrule=True)
            await self.engine.execute(opening)

    @property
    def shared_limits(self) -> Mapping[str, Limits]:
        return {name: each.limits for name, each in self.options.limits.items()}

    def make_producer(self, queue: str, options: QueueOptions) -> Producer:
        return Producer(
            self.engine,
            self.executor,
            options,
            name=self.name,
            node=self.node,
            queue=queue,
            cancel_grace_period=self.options.cancel_grace_period,
            shared_limits=self.shared_limits,
            solitude=self.solitude,
            is_believed_alive=self.heart.is_believed_alive,
            hear_due_in=self.stager.hear_due_in,
        )

    @property
    def producers(self) -> Mapping[str, Producer]:
        """The queues that run here."""
        return self.queues.active

    def queue_loops(self) -> Sequence[Producer]:
        return self.queues.producers()

    @property
    def is_leader(self) -> bool:
        return self.heart.leader.is_leader

    def hear_beat(self, beat: Beat) -> None:
        """What the heartbeat brought, on the loop of the jobs."""
        if self.control and self.control.hear(beat.intents):
            self.heart.beat_soon()  # whoever gave the command waits to see it obeyed
        for intent in beat.intents:
            if intent.expires_in is not None:
                self.heart.beat_in(intent.expires_in)
        for producer in self.queue_loops():
            uuid = producer.identity.uuid
            producer.hear_beat(beat.lost.get(uuid, ()), astray=uuid in beat.astray)

    # Signals: hints, each only wakes whoever looks for itself

    def hear(self, signal: Signal) -> None:
        match signal:
            case Inserted(queue):
                if producer := self.producers.get(queue):
                    producer.wake()
            case Due(at):
                self.stager.hear_due(at)
            case Stop(job_id):
                for producer in self.queue_loops():
                    producer.suspect(job_id)
            case Resigned(name) | Commanded(name, _):
                if name == self.name:
                    self.heart.beat_soon()
            case ForeignCommand():
                if self.control:
                    self.control.obey(signal)
            case UniqueLost(job_id) if self.is_leader:  # all hear it, one tells
                telemetry.execute("oban.job.unique_lost", {"job_id": job_id})
            case StackAsked(job_id):
                self.tell_stack(job_id)
            case Deaf(reason):
                self.hearing = reason
                telemetry.execute("oban.signals.deaf", {"reason": reason})
            case Resync():
                self.hearing = None
                self.stager.alarm.wake()
                for producer in self.queue_loops():
                    producer.suspect()
                self.wake_queues()

    def hear_head(self, queue: str, head: Head) -> None:
        if producer := self.producers.get(queue):
            producer.hear_head(head)

    def wake_queues(self) -> None:
        self.queues.wake()

    def tell_stack(self, job_id: int) -> None:
        """Tell whoever asks where the code of a job is, if it runs here."""
        for producer in self.queue_loops():
            if (run := producer.slots.run_of(job_id)) is not None:
                operation = self.engine.tell_stack(job_id, self.node, stack_of(run))
                answer = asyncio.create_task(self.answer(operation))
                self.answers.add(answer)
                answer.add_done_callback(self.answers.discard)

    async def answer(self, operation: Operation[None]) -> None:
        with suppress(DatabaseError):  # whoever asks has seen nothing, and asks again
            await self.engine.execute(self.engine.within(operation, ANSWERING))

    async def drop_answers(self) -> None:
        """Whoever asked waits a moment, and no longer for a node that stops."""
        if answers := list(self.answers):
            for answer in answers:
                answer.cancel()
            await asyncio.wait(answers)


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run beside the body of the `with`, until it is left."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
