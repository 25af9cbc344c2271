"""What keeps one test from another: how enqueued jobs are treated, and an empty table."""

from contextlib import AbstractContextManager

from oban import instances
from oban.instances import Mode
from oban.oban import Oban


def mode(mode: Mode) -> AbstractContextManager[None]:
    """Treat the jobs that are enqueued inside as a test wants it.

    "inline" runs each at once where it is enqueued, due or not, and without a database: `enqueue`
    returns the job as it would be afterwards, and raises what the job raises. "manual", which is
    what happens without a mode, leaves them in the table. It counts for this context, for tasks
    started in it, and for `def` jobs run by those.
    """
    return instances.override_testing_mode(mode)


async def reset_oban(oban: Oban | str = "Oban") -> None:
    """Delete all jobs in the instance's schema, running ones too."""
    instance = instance_of(oban)
    await instance.engine.execute(instance.engine.clear())


def instance_of(oban: Oban | str) -> Oban:
    """The instance itself, or the one of that name. Raises InstanceNotFound."""
    if isinstance(oban, Oban):
        return oban
    if isinstance(oban, str):
        return Oban.get_instance(oban)
    raise TypeError(f"oban is {oban!r:.80}; it is an Oban or the name of one")
