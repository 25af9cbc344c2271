"""What a process opens once for its jobs: clients, pools, models."""

import asyncio
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
)
from typing import Any, Self

from oban.callables import imported, is_path
from oban.errors import InvalidOption

Manager = AbstractAsyncContextManager[Any] | AbstractContextManager[Any]
#: A function, or where it is found: `module:function`, as a configuration says it.
Factory = Callable[[], Manager] | str
#: The same on its way to a child process: pickled, which is by its name.
Sent = bytes | str


class Opened(Mapping[str, Any]):
    """Resources by name. Raises KeyError with the reason for one that is not there.

    A copy of a job has the same ones; a pickled job has none.
    """

    def __init__(self, reasons: Mapping[str, str]) -> None:
        self.opened: dict[str, Any] = {}
        self.reasons = reasons

    def __getitem__(self, name: str) -> Any:
        if name not in self.opened:
            reason = self.reasons.get(name, f"there are: {', '.join(self) or 'none'}")
            raise KeyError(f"no resource {name!r}: {reason}")
        return self.opened[name]

    def __contains__(self, name: object) -> bool:
        return name in self.opened

    def __iter__(self) -> Iterator[str]:
        return iter(self.opened)

    def __len__(self) -> int:
        return len(self.opened)

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[()]]:
        return dict, ()


def check_factories(given: object) -> dict[str, Factory]:
    """The option `resources`. Raises InvalidOption unless it is names and functions."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(
        isinstance(name, str) and is_factory(factory) for name, factory in given.items()
    ):
        raise InvalidOption(
            f"resources is {given!r:.80}; it is a dict of names and of functions without arguments "
            'that return a context manager, async or not, or "module:function" for each'
        )
    return dict(given)


def is_factory(given: object) -> bool:
    return is_path(given) if isinstance(given, str) else callable(given)


def make(name: str, factory: Factory) -> Manager:
    """Call the factory, imported where it is given by its name."""
    found = imported(f"resources[{name!r}]", factory) if isinstance(factory, str) else factory
    manager = found()
    if not isinstance(manager, AbstractAsyncContextManager | AbstractContextManager):
        raise InvalidOption(
            f"resources[{name!r}] returned {manager!r:.80}; it returns a context manager"
        )
    return manager


async def open_all(stack: AsyncExitStack, factories: Mapping[str, Factory]) -> Mapping[str, Any]:
    """Open all in order, on this event loop."""
    resources = Opened({})
    for name, factory in factories.items():
        manager = make(name, factory)
        if isinstance(manager, AbstractAsyncContextManager):
            resources.opened[name] = await stack.enter_async_context(manager)
        else:
            resources.opened[name] = stack.enter_context(manager)
    return resources


class Keeper:
    """Opens resources, keeps them until it is told to close, and closes them in reverse order.

    All of that in one task of its own, as many of them ask for: one that cancels the task that has
    opened it, as a group of tasks does when one of them fails, cancels nothing else.
    """

    def __init__(self, factories: Mapping[str, Factory]) -> None:
        self.factories = factories
        self.opened: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self.asked_to_close = asyncio.Event()
        self.task = asyncio.create_task(self.keep(), name="oban resources")

    async def keep(self) -> None:
        async with AsyncExitStack() as stack:
            self.opened.set_result(await open_all(stack, self.factories))
            await self.asked_to_close.wait()

    async def open(self) -> Mapping[str, Any]:
        """The resources, once all are open. Raises what one raises."""
        either: set[asyncio.Future[Any]] = {self.opened, self.task}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self.opened.done():
            raise what_ended(self.task)
        return self.opened.result()

    def on_loss(self, tell: Callable[[BaseException], None]) -> None:
        """Have it told if they are closed for another reason than that they were asked to."""

        def look(task: asyncio.Task[None]) -> None:
            if not self.asked_to_close.is_set():
                tell(what_ended(task))

        self.task.add_done_callback(look)

    async def close(self, patience: float) -> None:
        """Raises what one raises while it closes, TimeoutError if that takes too long."""
        self.asked_to_close.set()
        if not self.opened.done():
            self.task.cancel()
        await asyncio.wait([self.task], timeout=patience)
        if not self.task.done():
            self.task.cancel()
            raise TimeoutError(
                f"the resources ({', '.join(self.factories)}) were not closed after "
                f"{patience:g} seconds"
            )
        if not self.task.cancelled():
            self.task.result()


def what_ended(task: asyncio.Task[None]) -> BaseException:
    if task.cancelled():
        return RuntimeError("a resource has cancelled the task that keeps it")
    return task.exception() or RuntimeError("the resources were closed before they were asked to")


def sendable(factories: Mapping[str, Factory]) -> tuple[dict[str, Sent], dict[str, str]]:
    """Those that a child process can find by their name, and why it cannot have the others."""
    found: dict[str, Sent] = {}
    missing: dict[str, str] = {}
    for name, factory in factories.items():
        try:
            found[name] = factory if isinstance(factory, str) else pickle.dumps(factory)
        except Exception as error:  # noqa: BLE001  # pickling is foreign code, of any kind of error
            missing[name] = f"a child process cannot import its factory ({error})"
    return found, missing


def open_in_child(
    stack: ExitStack, factories: Mapping[str, Sent], missing: Mapping[str, str]
) -> Mapping[str, Any]:
    """Open those whose context manager is not async; a child has no event loop between jobs."""
    reasons = dict(missing)
    resources = Opened(reasons)
    for name, sent in factories.items():
        manager = make(name, sent if isinstance(sent, str) else pickle.loads(sent))  # noqa: S301  # the node's
        if isinstance(manager, AbstractContextManager):
            resources.opened[name] = stack.enter_context(manager)
        else:
            reasons[name] = "its context manager is async, and a child process has no event loop"
    return resources
