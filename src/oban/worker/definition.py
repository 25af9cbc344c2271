"""What this process knows of a worker, and the registry of all of them."""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType, MethodType
from typing import Any, Final, Self

from oban.job import Job
from oban.periodic import Periodic
from oban.worker.execution import Place, mark
from oban.worker.hooks import Hook
from oban.worker.options import TIMES, job_fields, merge, settle
from oban.worker.policy import Policy
from oban.worker.typed import TypedArgs

NO_POLICY: Final = Policy()


@dataclass(frozen=True, slots=True)
class Definition:
    """One worker: the name its jobs are stored under, how they are built and how they run."""

    name: str
    #: The options its jobs have unless they are enqueued with others.
    options: Mapping[str, Any]
    #: The name of the Oban it enqueues through.
    oban: str
    #: Whether `call` gives a coroutine, to be awaited on the loop; else it runs in a thread.
    is_async: bool
    #: Runs a job. A class is made anew for each.
    call: Callable[[Job], Any]
    #: Gives the seconds to wait before the next attempt, or an awaitable of them.
    backoff: Callable[[Job], Any] | None = None
    #: Where `call` runs.
    executor: Place = "async"
    #: Seconds that an attempt may take, unless the job says otherwise.
    timeout: float | None = None
    #: What the arguments of its jobs are, where that is said.
    typed: TypedArgs | None = None
    #: What runs around `call`, from the outside in.
    hooks: tuple[Hook, ...] = ()
    #: What becomes of a job by what it raised.
    policy: Policy = NO_POLICY
    #: When its jobs are enqueued by the calendar.
    cron: tuple[Periodic, ...] = ()

    def build(self, args: object, options: Mapping[str, Any]) -> Job:
        """Make a job. `options` were checked by name; the job validates every value."""
        merged = merge(self.options, options) if options else self.options
        fields = job_fields(merged)
        own_args: Any = args
        if self.typed is not None:
            own_args = self.typed.stored(args)
        elif args is None or isinstance(args, Mapping):
            own_args = dict(args or {})
        job = Job(worker=self.name, args=own_args, **fields)
        if "meta" in self.options and "meta" not in options:
            job.meta = copy.deepcopy(job.meta)  # the next job's is not this one's to change
        if not TIMES.isdisjoint(merged):
            mark(job, merged.get("timeout"), merged.get("deadline"))
        return job

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """The same worker, whose jobs have these options unless enqueued with others."""
        if not options:
            return self
        return replace(self, options=settle(self.name, merge(self.options, options)))


REGISTRY: Final[dict[str, Definition]] = {}


def register(definition: Definition) -> None:
    """Make it the worker of its name; a module that is loaded again replaces its workers."""
    REGISTRY[definition.name] = definition


def registered() -> Mapping[str, Definition]:
    """The workers of this process by name, a live view."""
    return MappingProxyType(REGISTRY)


def forget(name: str) -> None:
    """Take a worker out of the registry, for a test that made it."""
    REGISTRY.pop(name, None)


def is_async(function: object) -> bool:
    """Whether calling it gives a coroutine, which a decorator or partial around it may hide."""
    return any(inspect.iscoroutinefunction(layer) for layer in layers(function))


def layers(function: object) -> Iterator[object]:
    """A callable and what it is wrapped around, from the outside in."""
    seen: set[int] = set()
    while id(function) not in seen:
        seen.add(id(function))
        yield function
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, MethodType | staticmethod | classmethod):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif not inspect.isroutine(function) and not inspect.isclass(function):
            function = getattr(type(function), "__call__", None)  # noqa: B004  # its code, not whether it is callable


def refuse_generator(name: str, function: object) -> None:
    """Raise TypeError for a function whose body would never run: calling it only makes it."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{name} is a generator: it yields, and calling it runs nothing. Return a value "
            "instead, and loop over what it yields inside"
        )
