"""The moments of a job, and the times between them."""

from datetime import UTC, datetime
from typing import Any

from oban.job import Job


def ended_at(job: Job) -> datetime | None:
    return job.completed_at or job.cancelled_at or job.discarded_at


def times(job: Job) -> dict[str, Any]:
    """How long a job waited before its last attempt, and ran in it, in seconds."""
    began, ended, due = job.attempted_at, ended_at(job), job.scheduled_at
    if began is None:
        return {"wait": None, "run": None}
    run = (ended or datetime.now(UTC)) - began if ended or job.state == "executing" else None
    wait = began - due if due is not None and due <= began else None
    return {
        "wait": None if wait is None else wait.total_seconds(),
        "run": None if run is None else max(0.0, run.total_seconds()),
    }
