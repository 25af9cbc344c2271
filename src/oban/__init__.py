"""Job orchestration on the PostgreSQL an application already has."""

from typing import TYPE_CHECKING

from oban.current import current_job
from oban.job import Job
from oban.outcome import Cancel, Discard, RateLimited, Record, Snooze
from oban.states import JobState
from oban.worker import Hooks, Worker, job, worker

if TYPE_CHECKING:
    from oban.oban import Oban

__all__ = [
    "Cancel",
    "Discard",
    "Hooks",
    "Job",
    "JobState",
    "Oban",
    "RateLimited",
    "Record",
    "Snooze",
    "Worker",
    "current_job",
    "job",
    "worker",
]


def __getattr__(name: str) -> object:
    # Child processes, and modules of nothing but workers, need no database and so not its driver.
    if name == "Oban":
        from oban.oban import Oban

        globals()[name] = Oban
        return Oban
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
