"""What a job waits for that is not available yet."""

from typing import Final

from oban.engines.explain import JobFacts
from oban.explaining import nodes
from oban.explaining.words import (
    KeptError,
    at_text,
    command,
    last_error,
    meta_of,
    read_moment,
    shortened,
)
from oban.explanation import Cause
from oban.phrases import length_text
from oban.running.executor import MAX_UNKNOWN, count
from oban.states import JobState
from oban.worker.execution import DEADLINE

#: Seconds after its time in which a job is made available.
STAGED: Final = 5.0


def causes(facts: JobFacts) -> list[Cause]:
    """Why its time is when it is, and what will keep it then."""
    why = failed(facts) if facts.job.state == JobState.RETRYABLE else scheduled(facts)
    return [*overdue(facts), why, *nodes.obstacles(facts), *too_late(facts)]


def seconds_left(facts: JobFacts) -> float:
    due = facts.job.scheduled_at
    return 0.0 if due is None else (due - facts.at).total_seconds()


def overdue(facts: JobFacts) -> list[Cause]:
    late = -seconds_left(facts)
    if late < STAGED:
        return []
    text = f"it was due {length_text(late)} ago, and nobody has made it available"
    advice = (
        "see the logs of the nodes for oban.stager.stage; many jobs due at once take a while"
        if facts.living_queues
        else f"no node is alive: start one, as with `{nodes.start_node(facts.job.queue)}`"
    )
    return [Cause("overdue", text, advice, {"seconds": late})]


def too_late(facts: JobFacts) -> list[Cause]:
    due = facts.job.scheduled_at
    deadline = read_moment(meta_of(facts.job).get(DEADLINE))
    if deadline is None or due is None or deadline > due:
        return []
    text = f"its deadline, {at_text(deadline)}, comes before that: then it will be cancelled"
    return [Cause("deadline_passed", text, None, {"deadline": deadline})]


def when(facts: JobFacts) -> str:
    due = facts.job.scheduled_at
    return "at a time that is not known" if due is None else f"at {at_text(due)}"


def failed(facts: JobFacts) -> Cause:
    job = facts.job
    error = last_error(job)
    text = f"attempt {job.attempt} of {job.max_attempts} failed"
    if error is not None:
        text += f" with {error.gist}"
    return Cause(
        "backoff",
        f"{text}; it runs again {when(facts)}",
        f"{command('jobs', 'retry', job.id)} runs it now",
        {
            "attempt": job.attempt,
            "max_attempts": job.max_attempts,
            "scheduled_at": job.scheduled_at,
            "error": error and error.gist,
        },
    )


def scheduled(facts: JobFacts) -> Cause:
    """By whom it was put off. What was last shows in the counters and errors that it left."""
    job = facts.job
    error = last_error(job)
    tries = count(job, "unknown_worker")
    if tries and error is not None and is_of_unknown_worker(error):
        return unknown_worker(facts, tries, error)
    if (postponed := count(job, "postponed")) and count(job, "crashes"):
        return Cause(
            "runs_alone",
            f"{count(job, 'crashes')} processes died while they ran it, so it runs alone; it was "
            f"put off {times(postponed)} for a process that is idle, and is due {when(facts)}",
            None,
            {"crashes": count(job, "crashes"), "postponed": postponed},
        )
    now = f"{command('jobs', 'retry', job.id)} runs it now"
    details = {"scheduled_at": job.scheduled_at}
    if snoozed := count(job, "snoozed"):
        after = f" after {error.gist}" if error is not None else ""
        text = f"it was snoozed, {times(snoozed)} by now{after}; it runs {when(facts)}"
        return Cause("snoozed", text, now, {**details, "snoozed": snoozed})
    return Cause("scheduled", f"it was scheduled for then: it runs {when(facts)}", now, details)


def is_of_unknown_worker(error: KeptError) -> bool:
    """Whether it says what the errors of `UnknownWorker` do."""
    return " is unknown: " in error.text or " is no worker: " in error.text


def unknown_worker(facts: JobFacts, tries: int, error: KeptError) -> Cause:
    worker = facts.job.worker
    return Cause(
        "unknown_worker",
        f"no node that claimed it knows {worker} ({error.gist}): try {tries} of {MAX_UNKNOWN}, the "
        f"next {when(facts)}",
        "deploy the code that defines it, or name its module: oban start --modules; a worker that "
        "was renamed takes its old name in `aliases`",
        {"worker": worker, "tries": tries, "max_tries": MAX_UNKNOWN, "error": error.gist},
    )


def times(number: int) -> str:
    return "once" if number == 1 else f"{number:,} times"


def suspended(facts: JobFacts) -> Cause:
    job = facts.job
    meta = meta_of(job)
    text = "it waits until somebody makes it available"
    details = {}
    if (workflow := meta.get("workflow_id")) is not None:
        text = f"it belongs to workflow {shortened(str(workflow))}, which makes it available"
        details["workflow_id"] = workflow
        if (needed := meta.get("deps")) is not None:
            text += f" after {shortened(str(needed))}"
            details["deps"] = needed
    return Cause(
        "suspended", text, f"{command('jobs', 'retry', job.id)} makes it available", details
    )
