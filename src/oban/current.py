"""The job that runs here: a context variable, so that code deep below a worker can ask."""

from contextvars import ContextVar
from typing import Final

from oban.job import Job

CURRENT: Final[ContextVar[Job | None]] = ContextVar("oban_current_job", default=None)


def current_job() -> Job | None:
    """The job whose code asks, on the event loop, a thread or in a child process; else None.

    Tasks that a job starts see it too, as do threads that run in a copy of its context.
    """
    return CURRENT.get()
