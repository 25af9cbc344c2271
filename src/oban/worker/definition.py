"""What this process knows of a worker, and the registry of all of them."""

import copy
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, Self

from oban.errors import InvalidOption
from oban.fields import MAX_NAME_LENGTH
from oban.job import Job
from oban.periodic import Periodic
from oban.vault import clean_private, require_unguessable
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
    #: Whether the arguments of its jobs are encrypted in the table.
    encrypted: bool = False
    #: Names that its jobs were stored under before.
    aliases: tuple[str, ...] = ()
    #: What runs around `call`, from the outside in.
    hooks: tuple[Hook, ...] = ()
    #: What becomes of a job by what it raised.
    policy: Policy = NO_POLICY
    #: When its jobs are enqueued by the calendar.
    cron: tuple[Periodic, ...] = ()

    def build(self, args: object, options: Mapping[str, Any]) -> Job:
        """Make a job. `options` were checked by name; the job validates every value."""
        merged = merge(self.options, options) if options else self.options
        own_args: Any = args
        if self.typed is not None:
            own_args = self.typed.stored(args)
        elif args is None or isinstance(args, Mapping):
            own_args = dict(args or {})
        if self.encrypted:
            return self.private(own_args, merged, options)
        job = Job(worker=self.name, args=own_args, **job_fields(merged))
        return self.finished(job, merged, options)

    def private(self, args: Any, merged: Mapping[str, Any], options: Mapping[str, Any]) -> Job:
        """A job whose arguments no message shows, and no table holds in the clear."""
        job = Job(worker=self.name, **job_fields(merged))
        job.args = clean_private(self.name, args)
        require_unguessable(job)
        job.private = True
        return self.finished(job, merged, options)

    def finished(self, job: Job, merged: Mapping[str, Any], options: Mapping[str, Any]) -> Job:
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
#: Of these, those whose arguments are encrypted.
PRIVATE: Final[set[str]] = set()
#: The names that workers had before, and those they have now.
FORMER: Final[dict[str, str]] = {}


def register(definition: Definition) -> None:
    """Make it the worker of its name; a module that is loaded again replaces its workers.

    Raises InvalidOption where a former name of one worker is a name of another.
    """
    name = definition.name
    for former in definition.aliases:
        other = former if former in REGISTRY else FORMER.get(former, name)
        if other != name:
            raise InvalidOption(
                f"{name} has the alias {former!r}, which is "
                f"{'a worker itself' if other == former else f'an alias of {other}'}"
            )
    if name in FORMER:
        raise InvalidOption(f"{name} is a worker, and an alias of {FORMER[name]}")
    forget(name)
    REGISTRY[name] = definition
    if definition.encrypted:
        PRIVATE.update((name, *definition.aliases))
    FORMER.update(dict.fromkeys(definition.aliases, name))


def private_workers() -> Collection[str]:
    """The names of workers whose arguments are encrypted, a live view."""
    return PRIVATE


def worker_named(name: str) -> Definition | None:
    """The worker of that name, now or formerly, if this process has it."""
    known = REGISTRY.get(name)
    return known if known is not None or not FORMER else REGISTRY.get(FORMER.get(name, name))


def registered() -> Mapping[str, Definition]:
    """The workers of this process by name, a live view."""
    return MappingProxyType(REGISTRY)


def forget(name: str) -> None:
    """Take a worker out of the registry, as a test does that made it."""
    known = REGISTRY.pop(name, None)
    PRIVATE.discard(name)
    for former in () if known is None else known.aliases:
        FORMER.pop(former, None)
        PRIVATE.discard(former)


def clean_aliases(worker: str, given: object) -> tuple[str, ...]:
    """The option `aliases`. Raises InvalidOption for what no worker can have been called."""
    if given is None:
        return ()
    many = given if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    names: list[Any] = list(many)
    for each in names:
        is_dotted = isinstance(each, str) and "." in each and len(each) <= MAX_NAME_LENGTH
        if not is_dotted or not all(part.isidentifier() for part in each.split(".")):
            raise InvalidOption(
                f"aliases of {worker} holds {each!r:.80}; it is a list of former names, each "
                "module.Class as it stands in the table"
            )
        if each == worker:
            raise InvalidOption(f"aliases of {worker} holds its own name")
    return tuple(names)
