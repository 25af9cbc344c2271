"""Oban: the parts wired together, started and stopped."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, Self, TypedDict, Unpack

from psycopg_pool import AsyncConnectionPool

from oban import configuration, instances, telemetry
from oban.engines.base import Engine
from oban.engines.nodes import Beat
from oban.engines.operation import Operation
from oban.engines.postgres import PostgresEngine
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
from oban.errors import DatabaseError, NotStarted
from oban.limits import Limits
from oban.lookup import WorkerFinder
from oban.options import Options, PoolOptions, QueueOptions
from oban.pool import open_pool
from oban.queue_control import QueueControl
from oban.running.broadcaster import Broadcaster
from oban.running.children import Children, refuse_in_child
from oban.running.control import Control
from oban.running.executor import Executor
from oban.running.heart import Heart
from oban.running.leader import Leader
from oban.running.listener import Listener
from oban.running.meter import Meter
from oban.running.places import Places
from oban.running.producer import Producer, QueueInfo
from oban.running.queues import Queues
from oban.running.resources import Factory, check_factories
from oban.running.solitude import Solitude
from oban.running.stacks import stack_of
from oban.running.stager import Stager
from oban.running.threads import Threads
from oban.vault import Vault
from oban.worker.hooks import clean_hooks

STAGER_LABEL = "oban stager"
BROADCAST_LABEL = "oban broadcaster"
#: Why nothing is heard while a node starts, or runs nothing.
NOT_YET = "not listening yet"

#: Seconds that telling somebody where the code of a job is may take.
ANSWERING: Final = 2.0


class ObanOptions(TypedDict, total=False):
    """The options of an Oban; what they mean and their defaults stand in `oban.options`."""

    name: str | None
    node: str | None
    prefix: str | None
    queues: Mapping[str, int | Mapping[str, Any]] | None
    stager: Mapping[str, Any] | None
    shutdown_grace_period: float | None
    cancel_grace_period: float | None
    process_pool_size: int | None
    resources: Mapping[str, Factory] | None
    hooks: Iterable[object] | None
    encryption_keys: Sequence[str] | None
    listen_dsn: str | None
    worker_modules: Sequence[str] | None
    leadership: bool | None
    lifeline: Mapping[str, Any] | None
    refresher: Mapping[str, Any] | None
    scheduler: Mapping[str, Any] | None
    pruner: Mapping[str, Any] | None
    limits: Mapping[str, int | Mapping[str, Any]] | None
    metrics: bool | Mapping[str, Any] | None
    # Later versions bring these; until then each takes only what means nothing.
    notifier: object
    dispatcher: object


class Oban(QueueControl):
    """One instance: it enqueues and manages jobs, and runs those of its queues once started.

    `pool` is a psycopg AsyncConnectionPool, a DSN, or an Engine. Without queues the instance is a
    client and runs nothing. Making one registers it under its name, stopping takes it off again.
    Options that are wrong raise `InvalidOption`.
    """

    def __init__(
        self, *, pool: AsyncConnectionPool[Any] | str | Engine, **options: Unpack[ObanOptions]
    ) -> None:
        factories = check_factories(options.pop("resources", None))
        hooks = clean_hooks("hooks", options.pop("hooks", None))
        self.options = Options.parse(options)
        threads = Threads(f"oban {self.options.name}")
        super().__init__(
            self.options.name,
            make_engine(pool, self.options),
            Executor(
                WorkerFinder(worker_modules=self.options.worker_modules),
                Places(threads, Children(threads, self.options.process_pool_size), factories),
                hooks,
                Vault(self.options.encryption_keys),
            ),
        )
        self.queues: Queues | None = None
        self.control: Control | None = None
        self.stager: Stager | None = None
        self.heart: Heart | None = None
        self.supervisor: asyncio.Task[None] | None = None
        self.asked_to_stop: asyncio.Event | None = None
        #: Done when all is up.
        self.ready: asyncio.Future[None] | None = None
        #: What is told to somebody just now; held here, so that it is not lost on the way.
        self.answers: set[asyncio.Task[None]] = set()
        #: Why no notifications are heard, None while they are.
        self.hearing: str | None = NOT_YET
        #: Set by whoever ends the process right after `stop`: see `Producer.stop`.
        self.exiting = False
        instances.register(self)

    @property
    def node(self) -> str:
        return self.options.node

    @property
    def is_leader(self) -> bool:
        """Whether this process leads those that run an Oban of this name, right now."""
        return self.heart is not None and self.heart.leader.is_leader

    @staticmethod
    async def create_pool(
        dsn: str | None = None,
        *,
        min_size: int | None = None,
        max_size: int | None = None,
        timeout: float | None = None,
    ) -> AsyncConnectionPool[Any]:
        """Open a pool. Without a DSN, this and the sizes come from the configuration."""
        if dsn is None:
            loaded = configuration.load()
            dsn, configured = loaded.require_dsn(), loaded.pool
        else:
            configured = PoolOptions()
        options = replace(
            configured,
            min_size=configured.min_size if min_size is None else min_size,
            max_size=configured.max_size if max_size is None else max_size,
            timeout=configured.timeout if timeout is None else timeout,
        )
        return await open_pool(dsn, options)

    @staticmethod
    def get_instance(name: str = "Oban") -> "Oban":
        """The living instance of that name in this process. Raises `InstanceNotFound`."""
        found = instances.get(name)
        assert isinstance(found, Oban)
        return found

    # Start and stop

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> Self:
        """Run until `stop`. Returns when all is up; raises, with nothing left open, if it fails."""
        if self.supervisor is not None and not self.supervisor.done():
            raise NotStarted(f"Oban {self.name!r} is running already; stop it before another start")
        refuse_in_child()
        instances.register(self)
        ready = self.ready = asyncio.get_running_loop().create_future()
        self.asked_to_stop = asyncio.Event()
        supervisor = asyncio.create_task(self.supervise(ready), name=f"oban {self.name}")
        self.supervisor = supervisor
        try:
            await asyncio.wait([ready, supervisor], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            with suppress(Exception):  # what a start fails with must not hide the cancellation
                await self.stop()
            raise
        if not ready.done():
            self.supervisor = None
            instances.unregister(self)
            if supervisor.cancelled():
                raise NotStarted(f"Oban {self.name!r} was stopped before it was up")
            await supervisor
        return self

    async def stop(self) -> None:
        """Claim no more, let jobs finish within `shutdown_grace_period`, close what was opened.

        Jobs that are left are stopped and given back, their attempt uncounted. Stopping twice, or
        what was never started, does no harm; whoever stops what is stopping waits for its end too.
        """
        instances.unregister(self)
        supervisor = self.supervisor
        if supervisor is None:
            await self.bell.flush()
            await self.executor.places.children.close()
            await self.engine.close()
            return
        assert self.asked_to_stop is not None
        assert self.ready is not None
        self.asked_to_stop.set()
        if not self.ready.done():
            supervisor.cancel()  # what it waits for may never come
        try:
            # The caller may be cancelled while waiting; stopping goes on all the same. A host that
            # cancelled every task cancelled the supervisor too: then it has stopped already.
            await asyncio.wait({supervisor})
            if not supervisor.cancelled():
                supervisor.result()
        finally:
            if supervisor.done() and self.supervisor is supervisor:
                self.supervisor = None

    async def supervise(self, ready: "asyncio.Future[None]") -> None:
        """What runs, from top to bottom; stopping is the way back up."""
        assert self.asked_to_stop is not None
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.engine.close)
            stack.push_async_callback(self.bell.flush)
            stack.push_async_callback(self.drop_answers)
            await self.engine.open()
            await stack.enter_async_context(
                self.executor.places.open(
                    lost=self.asked_to_stop.set,
                    patience=lambda: self.options.shutdown_grace_period,
                )
            )
            if self.options.queues or self.options.leads:
                await stack.enter_async_context(background(Listener(self.engine, self.hear).run()))
                await stack.enter_async_context(self.beating())
                await stack.enter_async_context(self.staging())
                await stack.enter_async_context(self.broadcasting())
                await stack.enter_async_context(self.producing())
            ready.set_result(None)
            await self.asked_to_stop.wait()

    @asynccontextmanager
    async def staging(self) -> AsyncIterator[None]:
        session = self.engine.session(STAGER_LABEL)
        self.stager = Stager(
            self.engine,
            session,
            self.options.stager,
            lambda: self.producers,
            self.hear_head,
            hearing=lambda: self.hearing is None,
        )
        try:
            async with background(self.stager.run()):
                yield
        finally:
            self.stager = None
            await session.close()

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """The queues are made here, so that the first beat records them, before any claim.

        That beat brings what was commanded of them, too.
        """
        leader = Leader(self.node, wanted=self.options.leads)
        meter = Meter()
        vault = self.executor.vault
        heart = Heart(self.engine, self.options, leader, self, vault=vault, meter=meter)
        self.executor.meter = meter if self.options.metrics.enabled else None
        solitude = Solitude(heart.beat, self.wake_queues)
        make = partial(self.make_producer, solitude, heart.is_believed_alive)
        grace = self.options.shutdown_grace_period
        self.queues = Queues(make, self.options.queues, grace, heart.beat_soon)
        if self.options.queues:  # who only leads runs none, whatever is commanded
            self.control = Control(self.name, self.node, self.options.queues, self.queues)
        self.heart = heart
        try:
            await heart.open()
            yield
        finally:
            await heart.close()
            self.heart = self.control = self.queues = self.executor.meter = None

    @asynccontextmanager
    async def broadcasting(self) -> AsyncIterator[None]:
        """While others are told of them, notes pass through who tells to who keeps them."""
        keeper, heart = self.executor.meter, self.heart
        if keeper is None or heart is None or not self.options.metrics.broadcast:
            yield
            return
        session = self.engine.session(BROADCAST_LABEL)
        self.executor.meter = Meter()
        broadcaster = Broadcaster(
            self.engine,
            session,
            self.options.scheduler,
            heart.leader,
            name=self.name,
            meter=self.executor.meter,
            keeper=keeper,
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
        assert self.queues is not None
        assert self.heart is not None
        await self.say_limits()
        self.queues.open()
        try:
            yield
        finally:
            self.queues.drain()
            self.heart.beat_soon()  # a death from here on is no crash
            await self.queues.close(self.options.shutdown_grace_period, exiting=self.exiting)

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

    def make_producer(
        self,
        solitude: Solitude,
        is_believed_alive: Callable[[], bool],
        queue: str,
        options: QueueOptions,
    ) -> Producer:
        return Producer(
            self.engine,
            self.executor,
            options,
            name=self.name,
            node=self.node,
            queue=queue,
            cancel_grace_period=self.options.cancel_grace_period,
            shared_limits=self.shared_limits,
            solitude=solitude,
            is_believed_alive=is_believed_alive,
            hear_due_in=self.hear_due_in,
        )

    @property
    def producers(self) -> Mapping[str, Producer]:
        """The queues that run here."""
        return self.queues.active if self.queues else {}

    def queue_loops(self) -> Sequence[Producer]:
        return self.queues.producers() if self.queues else []

    def hear_beat(self, beat: Beat) -> None:
        """What the heartbeat brought, on the loop of the jobs."""
        assert self.heart is not None
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
                self.wake_queue(queue)
            case Due(at):
                if self.stager:
                    self.stager.hear_due(at)
            case Stop(job_id):
                for producer in self.queue_loops():
                    producer.suspect(job_id)
            case Resigned(name) | Commanded(name, _):
                if self.heart and name == self.name:
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
                if self.stager:
                    self.stager.alarm.wake()
                for producer in self.queue_loops():
                    producer.suspect()
                self.wake_queues()

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

    def wake_queues(self) -> None:
        if self.queues:
            self.queues.wake()

    def hear_head(self, queue: str, head: Head) -> None:
        if producer := self.producers.get(queue):
            producer.hear_head(head)

    def hear_due_in(self, delay: float) -> None:
        if self.stager:
            self.stager.hear_due_in(delay)

    def wake_queue(self, queue: str) -> None:
        if producer := self.producers.get(queue):
            producer.wake()

    # Queues

    def check_queue(self, queue: str) -> QueueInfo | None:
        """What the queue does on this node, None when it does not run here."""
        producer = self.producers.get(queue)
        return producer.info() if producer else None

    def check_all_queues(self) -> list[QueueInfo]:
        return [producer.info() for producer in list(self.producers.values())]


def make_engine(pool: object, options: Options) -> Engine:
    if hasattr(pool, "traits"):
        return pool  # type: ignore[return-value]  # an Engine says so by its traits
    return PostgresEngine(
        pool,
        options.prefix,
        due_within=options.stager.interval,
        listen_dsn=options.listen_dsn,
    )


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run beside the body of the `with`, until it is left."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
