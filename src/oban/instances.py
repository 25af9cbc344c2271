"""The Oban instances of this process by name, and the testing mode.

Workers enqueue through the instance whose name they carry, without importing it.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Literal, Protocol, get_args

from oban.errors import InstanceNotFound, InvalidOption
from oban.job import Job

Mode = Literal["inline", "manual"]


class Instance(Protocol):
    """What a worker needs of an Oban: a name, and the ways to enqueue."""

    @property
    def name(self) -> str: ...

    async def enqueue(self, job: Job, *, conn: object = None) -> Job: ...

    async def enqueue_many(self, *jobs: Job | Iterable[Job], conn: object = None) -> list[Job]: ...

    def enqueue_sync(self, job: Job, *, conn: object = None) -> Job: ...

    def enqueue_many_sync(self, *jobs: Job | Iterable[Job], conn: object = None) -> list[Job]: ...


#: Of each name all that live, the newest last.
INSTANCES: Final[dict[str, list[Instance]]] = {}


def register(instance: Instance) -> None:
    """Make `instance` the one of its name. The newest wins."""
    unregister(instance)
    INSTANCES.setdefault(instance.name, []).append(instance)


def unregister(instance: Instance) -> None:
    """Forget `instance`; an older one that lives has the name again."""
    others = [each for each in INSTANCES.pop(instance.name, []) if each is not instance]
    if others:
        INSTANCES[instance.name] = others


def get(name: str = "Oban") -> Instance:
    """Return the instance of that name. Raises InstanceNotFound."""
    try:
        return INSTANCES[name][-1]
    except KeyError:
        names = ", ".join(repr(each) for each in sorted(INSTANCES))
        raise InstanceNotFound(
            f"no Oban named {name!r} exists in this process; "
            + (f"these do: {names}. " if names else "none does. ")
            + f"Make one first, Oban(pool=..., name={name!r}), or name another in the worker: "
            "@worker(oban=...)"
        ) from None


MODE: Final[ContextVar[Mode | None]] = ContextVar("oban_testing_mode", default=None)


def testing_mode() -> Mode | None:
    """How enqueued jobs are treated in this context, None outside of tests."""
    return MODE.get()


@contextmanager
def override_testing_mode(mode: Mode | None) -> Iterator[None]:
    """Treat jobs enqueued inside as `mode` says: here, in tasks started here, not elsewhere.

    A thread sees it when it runs in a copy of this context, as those of `asyncio.to_thread` do.
    """
    if mode is not None and mode not in get_args(Mode):
        raise InvalidOption(f"testing mode is {mode!r}; it is 'inline' or 'manual'")
    before = MODE.get()
    MODE.set(mode)
    try:
        yield
    finally:
        # Not by token: a fixture may leave in another context than it entered.
        MODE.set(before)
