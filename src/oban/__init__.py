"""Job orchestration on the PostgreSQL an application already has."""

from oban.current import current_job
from oban.job import Job
from oban.oban import Oban
from oban.outcome import Cancel, Discard, RateLimited, Record, Snooze
from oban.states import JobState
from oban.worker import Hooks, Worker, job, worker

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
