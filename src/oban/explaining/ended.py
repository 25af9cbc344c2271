"""Why a job ended as it did: by what its last attempt left."""

from datetime import datetime, timedelta
from typing import Any, Final

from oban.engines.explain import JobFacts
from oban.explaining.due import is_of_unknown_worker
from oban.explaining.words import KeptError, command, last_error
from oban.explanation import Cause, Code
from oban.job import Job
from oban.phrases import length_text
from oban.running.executor import MAX_UNKNOWN, count

#: What ends a job writes its error with it, in one statement; JSON may round the time.
TOGETHER: Final = timedelta(milliseconds=10)

# How the errors begin, or go on, that we write ourselves: see rescue_attempts, rescue_old,
# stage_jobs, and the executor.
DEADLINE: Final = "its deadline was "
NEVER_BEGUN: Final = "cancelled before it began"
NO_ATTEMPT: Final = "available without an attempt left"
DIED: Final = "the process that ran this attempt on node "
SUSPECT: Final = "which is given up as the likely cause"
TOO_OLD: Final = "rescued, since it ran for more than lifeline.rescue_after"


def completed(facts: JobFacts) -> list[Cause]:
    job = facts.job
    text = f"it was done by attempt {job.attempt} of {job.max_attempts}{on_node(job)}"
    text += spent(job, job.completed_at)
    if job.attempt > 1 and (error := last_error(job)):
        text += f"; the attempt before failed with {error.gist}"
    return [Cause("completed", text, None, times_of(job, job.completed_at))]


def cancelled(facts: JobFacts) -> list[Cause]:
    job = facts.job
    error = last_error(job)
    details = times_of(job, job.cancelled_at)
    retry = f"{command('jobs', 'retry', job.id)} runs it after all"
    if error is None or not came_with(error, job.cancelled_at):
        text = f"somebody cancelled it{' while it ran' if ran_until(job.cancelled_at, job) else ''}"
        if error is not None and is_later(error, job.cancelled_at):
            text += f"; its code ended with {error.gist}"
        return [Cause("cancelled", text, retry, details)]
    details["error"] = error.gist
    if error.text.startswith(DEADLINE):
        text = f"it was claimed too late: {error.gist}"
        return [Cause("deadline_missed", text, retry, details)]
    if error.text.startswith(NEVER_BEGUN):
        return [Cause("cancelled", "somebody cancelled it before it began", retry, details)]
    verb = "raised what cancels it" if error.has_traceback else "cancelled itself"
    text = f"attempt {job.attempt} {verb}{on_node(job)}: {error.gist}{spent(job, job.cancelled_at)}"
    return [Cause("cancelled_itself", text, retry, details)]


def discarded(facts: JobFacts) -> list[Cause]:
    job = facts.job
    error = last_error(job)
    details = times_of(job, job.discarded_at)
    again = f"{command('jobs', 'retry', job.id)} gives it another attempt"
    if error is None:
        return [Cause("discarded", "nothing tells why: it left no error", again, details)]
    details["error"] = error.gist
    code, text = why_discarded(job, error)
    if error.has_traceback:
        again += f"; {command('jobs', 'show', job.id)} has the traceback"
    return [Cause(code, text, again, details)]


def why_discarded(job: Job, error: KeptError) -> tuple[Code, str]:
    tries = count(job, "unknown_worker")
    if error.text.startswith(NO_ATTEMPT):
        return "no_attempt_left", "it was available without an attempt left, so nobody could run it"
    if error.text.startswith(DIED) and SUSPECT in error.text:
        crashes = count(job, "crashes")
        return "suspect", (
            f"{crashes} processes died while they ran it: it was given up as the likely cause"
        )
    if error.text.startswith((DIED, TOO_OLD)):
        return "rescued_exhausted", f"its last attempt was rescued: {error.gist}"
    if tries >= MAX_UNKNOWN and is_of_unknown_worker(error):
        return "unknown_worker", (
            f"no node that claimed it knew {job.worker}, {tries} times in a row: {error.gist}"
        )
    if job.attempt < job.max_attempts:
        verb = "raised what discards it" if error.has_traceback else "discarded the job"
        return "discarded_itself", (
            f"attempt {job.attempt} of {job.max_attempts} {verb}{on_node(job)}: {error.gist}"
        )
    return "attempts_exhausted", (
        f"all {job.max_attempts} attempts failed, the last{on_node(job)} with {error.gist}"
        if job.max_attempts > 1
        else f"its only attempt failed{on_node(job)} with {error.gist}"
    )


def came_with(error: KeptError, moment: datetime | None) -> bool:
    return error.at is not None and moment is not None and abs(error.at - moment) <= TOGETHER


def is_later(error: KeptError, moment: datetime | None) -> bool:
    return error.at is not None and moment is not None and error.at > moment + TOGETHER


def ran_until(moment: datetime | None, job: Job) -> bool:
    """Whether an attempt was under way then, as far as its error tells."""
    error = last_error(job)
    return error is not None and error.attempt == job.attempt and is_later(error, moment)


def on_node(job: Job) -> str:
    return f" on node {job.attempted_by[0]}" if job.attempted_by else ""


def spent(job: Job, ended_at: datetime | None) -> str:
    times = times_of(job, ended_at)
    ran, waited = times["ran_for"], times["waited_for"]
    if ran is None:
        return ""
    before = "" if waited is None else f", after it had waited for {length(waited)}"
    return f", in {length(ran)}{before}"


def length(seconds: float) -> str:
    return length_text(seconds) if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def times_of(job: Job, ended_at: datetime | None) -> dict[str, Any]:
    """How long it ran, and how long it had waited when it was due."""
    begun = job.attempted_at
    return {
        "ran_for": between(begun, ended_at),
        "waited_for": between(job.scheduled_at, begun),
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
    }


def between(first: datetime | None, second: datetime | None) -> float | None:
    if first is None or second is None or second < first:
        return None
    return (second - first).total_seconds()
