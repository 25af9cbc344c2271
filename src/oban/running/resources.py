"""What a process opens once for its jobs: clients, pools, models."""

import pickle
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
)
from typing import Any, Self

from oban.callables import imported, is_path
from oban.errors import InvalidOption

Manager = AbstractAsyncContextManager[Any] | AbstractContextManager[Any]
#: A function, or where it is found: `module:function`, as a configuration says it.
Factory = Callable[[], Manager] | str


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


@asynccontextmanager
async def opened(factories: Mapping[str, Factory]) -> AsyncIterator[Mapping[str, Any]]:
    """Open all in order, on this event loop; close them in reverse order, whatever one raises."""
    resources = Opened({})
    async with AsyncExitStack() as stack:
        for name, factory in factories.items():
            manager = make(name, factory)
            if isinstance(manager, AbstractAsyncContextManager):
                resources.opened[name] = await stack.enter_async_context(manager)
            else:
                resources.opened[name] = stack.enter_context(manager)
        yield resources


def sendable(factories: Mapping[str, Factory]) -> tuple[dict[str, Factory], dict[str, str]]:
    """Those that a child process can find by their name, and why it cannot have the others."""
    found, missing = {}, {}
    for name, factory in factories.items():
        try:
            pickle.dumps(factory)
        except Exception as error:  # noqa: BLE001  # pickling is foreign code, of any kind of error
            missing[name] = f"a child process cannot import its factory ({error})"
        else:
            found[name] = factory
    return found, missing


def open_in_child(
    stack: ExitStack, factories: Mapping[str, Factory], missing: Mapping[str, str]
) -> Mapping[str, Any]:
    """Open those whose context manager is not async; a child has no event loop between jobs."""
    reasons = dict(missing)
    resources = Opened(reasons)
    for name, factory in factories.items():
        manager = make(name, factory)
        if isinstance(manager, AbstractContextManager):
            resources.opened[name] = stack.enter_context(manager)
        else:
            reasons[name] = "its context manager is async, and a child process has no event loop"
    return resources
