"""Oban: the face of the framework. Its options, its start and stop, and what it is asked."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Self, TypedDict, Unpack

from psycopg_pool import AsyncConnectionPool

from oban import configuration, instances
from oban.engines.base import Engine
from oban.engines.postgres import PostgresEngine
from oban.errors import NotStarted
from oban.lookup import WorkerFinder
from oban.options import Options, PoolOptions
from oban.pool import open_pool
from oban.queue_control import QueueControl
from oban.running.children import Children, refuse_in_child
from oban.running.executor import Executor
from oban.running.node import NOT_YET, Node
from oban.running.places import Places
from oban.running.producer import Producer, QueueInfo
from oban.running.resources import Factory, check_factories
from oban.running.threads import Threads
from oban.vault import Vault
from oban.worker.hooks import clean_hooks


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
        #: What runs here, None on a client and before and after the run.
        self.running_node: Node | None = None
        self.supervisor: asyncio.Task[None] | None = None
        self.asked_to_stop: asyncio.Event | None = None
        #: Done when all is up.
        self.ready: asyncio.Future[None] | None = None
        #: Set by whoever ends the process right after `stop`: see `Producer.stop`.
        self.exiting = False
        instances.register(self)

    @property
    def node(self) -> str:
        return self.options.node

    @property
    def is_leader(self) -> bool:
        """Whether this process leads those that run an Oban of this name, right now."""
        return self.running_node is not None and self.running_node.is_leader

    @property
    def hearing(self) -> str | None:
        """Why no notifications are heard, None while they are."""
        return self.running_node.hearing if self.running_node else NOT_YET

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
            await self.engine.open()
            await stack.enter_async_context(
                self.executor.places.open(
                    lost=self.asked_to_stop.set,
                    patience=lambda: self.options.shutdown_grace_period,
                )
            )
            if self.options.queues or self.options.leads:
                await stack.enter_async_context(self.running())
            ready.set_result(None)
            await self.asked_to_stop.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        # How to stop is asked for then: whoever stops this may still decide on it.
        self.running_node = Node(
            self.engine,
            self.executor,
            self.options,
            grace=lambda: self.options.shutdown_grace_period,
            exiting=lambda: self.exiting,
        )
        try:
            async with self.running_node.open():
                yield
        finally:
            self.running_node = None

    # Queues

    @property
    def producers(self) -> Mapping[str, Producer]:
        """The queues that run here."""
        return self.running_node.producers if self.running_node else {}

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
