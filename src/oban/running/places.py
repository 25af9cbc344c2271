"""Where a job's code runs: on the event loop, on a thread, in a child process."""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from oban import telemetry
from oban.errors import ProcessDied
from oban.lookup import WorkerFinder
from oban.running.children import CLOSING, Children
from oban.running.crossing import Crossing, module_of, read_outcome, write_job
from oban.running.resources import Factory, Keeper, sendable
from oban.running.run import Run
from oban.running.threads import Returned, Threads
from oban.running.time_limit import TimeLimit
from oban.worker import Definition

if TYPE_CHECKING:
    from oban.running.child import Setup


class Places:
    """Runs workers, each where it asks to, and keeps what they find there."""

    def __init__(
        self,
        threads: Threads,
        children: Children | None = None,
        factories: Mapping[str, Factory] = MappingProxyType({}),
    ) -> None:
        self.threads = threads
        self.children = Children(threads) if children is None else children
        #: How resources are opened: in this process while it is open, in a child when it starts.
        self.factories = factories
        self.resources: Mapping[str, Any] = {}

    @asynccontextmanager
    async def open(
        self, lost: Callable[[], None], patience: Callable[[], float]
    ) -> AsyncIterator[None]:
        """Have the resources there; at the end no child is left, and they are closed.

        `lost` is called when they are closed before that. Closing them may take `patience` seconds.
        """
        async with self.kept(lost, patience) if self.factories else nullcontext():
            try:
                yield
            finally:
                await self.children.close()

    @asynccontextmanager
    async def kept(
        self, lost: Callable[[], None], patience: Callable[[], float]
    ) -> AsyncIterator[None]:
        def tell(error: BaseException) -> None:
            telemetry.execute("oban.resources.exception", telemetry.describe_error(error))
            lost()

        keeper = Keeper(self.factories)
        try:
            self.resources = await keeper.open()
            keeper.on_loss(tell)
            yield
        finally:
            self.resources = {}
            await keeper.close(max(CLOSING, patience()))

    async def call(
        self, definition: Definition, run: Run, timeout: float | None, finder: WorkerFinder
    ) -> Any:
        """What the worker returns within its time. Raises what it raises."""
        limit = nullcontext() if timeout is None else TimeLimit(run, timeout)
        match definition.executor:
            case "async":
                with limit:
                    return await definition.call(run.given)
            case "thread":
                with limit:
                    return await self.call_on_thread(definition, run)
            case "process":
                return await self.call_in_child(definition, run, limit, finder)

    async def call_on_thread(self, definition: Definition, run: Run) -> Any:
        run.threaded = True
        returned = await self.returned(run, lambda: definition.call(run.given))
        run.threaded = False
        if returned.error is not None:
            raise returned.error
        if inspect.isawaitable(returned.value):
            if run.overdue:
                if inspect.iscoroutine(returned.value):
                    returned.value.close()
                raise asyncio.CancelledError
            return await returned.value
        return returned.value

    async def on_thread(self, run: Run, work: Callable[[], Any]) -> Any:
        """A hook that is `def`. It holds its slot as code on a thread does."""
        threaded, run.threaded = run.threaded, True
        returned = await self.returned(run, work)
        run.threaded = threaded
        if returned.error is not None:
            raise returned.error
        return returned.value

    async def returned(self, run: Run, work: Callable[[], Any]) -> Returned:
        def noted() -> Any:
            run.thread_id = threading.get_ident()
            try:
                return work()
            finally:
                run.thread_id = None

        return await until_returned(run, self.threads.submit(noted))

    async def call_in_child(
        self,
        definition: Definition,
        run: Run,
        limit: AbstractContextManager[None],
        finder: WorkerFinder,
    ) -> Any:
        """Its time begins when a child is there for it, which has imported it."""
        module = module_of(definition.name)
        carried: dict[str, Any] = {}
        telemetry.execute("oban.child.send", {"job": run.job, "carried": carried})
        text = write_job(Crossing(run.given, module, carried))
        while True:
            async with self.children.borrow(partial(self.setup, finder)) as child:
                run.kill = child.kill
                try:
                    await child.find(run.job.worker, module)
                    with limit:
                        return read_outcome(await child.run(text))
                except ProcessDied:
                    if not child.died_idle:
                        raise  # one that died before it began is no fault of the job's: on another
                finally:
                    run.kill = None

    def setup(self, finder: WorkerFinder) -> "Setup":
        """With what a child finds workers as this process does, and opens resources of its own."""
        from oban.running.child import Setup

        modules = finder.worker_modules
        return Setup(
            finder.application.root,
            None if modules is None else tuple(modules),
            *sendable(self.factories),
        )


async def until_returned(run: Run, work: "asyncio.Future[Returned]") -> Returned:
    """Wait for a thread, which no cancellation stops: its job must not be run beside it."""
    while True:
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if run.is_abandoned():
                raise
