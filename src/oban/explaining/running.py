"""How it goes with a job that executes, or is being stopped."""

from typing import Any

from oban.engines.explain import JobFacts, Runner
from oban.explaining.nodes import blocked, is_leaving, node_of
from oban.explaining.waiting import alone
from oban.explaining.words import at_text, command, seconds_since, since
from oban.explanation import Cause
from oban.phrases import length_text
from oban.running.solitude import is_suspect
from oban.worker.execution import timeout_of


def causes(facts: JobFacts) -> list[Cause]:
    runner = facts.runner
    if runner is None or not runner.is_ours:
        return [foreign(facts)]
    if not runner.alive:
        return [silent(facts, runner)]
    return [
        progress(facts, runner),
        *alone(facts),
        *past_timeout(facts),
        *blocked([runner]),
        *leaving(runner),
    ]


def node_name(facts: JobFacts) -> str:
    return str(facts.job.attempted_by[0]) if facts.job.attempted_by else "an unknown node"


def foreign(facts: JobFacts) -> Cause:
    """Ours are those in the table of producers; see docs/reliability.md."""
    node = node_name(facts)
    seen = "" if facts.runner is None or facts.runner.alive else ", which has fallen silent"
    return Cause(
        "foreign",
        f"a producer that is none of ours has it, on node {node}{seen}, since "
        f"{since(facts, facts.job.attempted_at)}: we neither stop nor rescue it",
        f"is {node} alive? If it is gone, and its own package does not rescue the job, "
        f"{command('jobs', 'cancel', facts.job.id)} and then retry",
        {"node": node, "attempted_at": facts.job.attempted_at},
    )


def silent(facts: JobFacts, runner: Runner) -> Cause:
    age = runner.known.beat_age
    silence = "gives no sign of life" if age is None else f"has been silent for {length_text(age)}"
    text = f"its process on node {node_of(runner)} {silence}: it died, or cannot reach the database"
    if facts.living_queues:
        text += "; another node rescues the job within seconds"
        advice = "look again; where it stays, see the logs of the nodes for oban.lifeline.rescue"
    else:
        text += ", and no node is alive that could rescue the job"
        advice = "start a node: it rescues what dead ones ran"
    details = {"node": node_of(runner), "silent_for": age, "max_age": runner.known.max_age}
    return Cause("node_silent", text, advice, details)


def progress(facts: JobFacts, runner: Runner) -> Cause:
    job = facts.job
    node = node_of(runner)
    attempt = f"attempt {job.attempt} of {job.max_attempts}"
    details = {
        "node": node,
        "uuid": runner.known.identity.uuid,
        "attempted_at": job.attempted_at,
        "beat_age": runner.known.beat_age,
        "rescued_in": max(0.0, runner.known.max_age - (runner.known.beat_age or 0.0)),
    }
    begun = has_begun(facts, runner)
    if begun is False:
        ago = f"{since(facts, job.attempted_at)} ago"
        return Cause(
            "not_begun",
            f"node {node} has claimed it, {ago}, and not begun it: it starts when nothing else "
            "runs there"
            if is_suspect(job)
            else f"node {node} has claimed it ahead, {ago}, and not begun it: it starts when a "
            "slot there is free",
            None,
            details,
        )
    beat = length_text(runner.known.beat_age or 0.0)
    return Cause(
        "running",
        f"it runs on node {node}, {attempt}; the last sign of life came {beat} ago, and after "
        f"{length_text(runner.known.max_age)} without one it would be rescued",
        f"{command('jobs', 'cancel', job.id)} asks it to stop",
        details,
    )


def has_begun(facts: JobFacts, runner: Runner) -> bool | None:
    """By the last heartbeat, None where it is older than the claim or tells nothing."""
    told: Any = runner.known.meta.get("running")
    processed: Any = runner.known.meta.get("processed_at")
    claimed = facts.job.attempted_at
    if not isinstance(told, list):
        return None
    if facts.job.id in told:
        return True
    if not isinstance(processed, int | float) or claimed is None:
        return None
    return False if claimed.timestamp() <= processed else None


def past_timeout(facts: JobFacts) -> list[Cause]:
    """Of a timeout that was given for this job: that of a worker stands in its code."""
    allowed = timeout_of(facts.job, None)
    ran = seconds_since(facts, facts.job.attempted_at)
    if allowed is None or ran is None or ran <= allowed:
        return []
    return [
        Cause(
            "past_timeout",
            f"it is past its timeout of {length_text(allowed)}: it was asked to stop, and its code "
            "goes on",
            "code on a thread cannot be stopped; `executor='process'` can be killed",
            {"timeout": allowed, "ran_for": ran},
        )
    ]


def leaving(runner: Runner) -> list[Cause]:
    if not is_leaving(runner):
        return []
    text = (
        f"node {node_of(runner)} is shutting down: the job may finish within its grace period, and "
        "goes back then, uncounted"
    )
    return [Cause("node_stopping", text, None, {"node": node_of(runner)})]


def stopping(facts: JobFacts) -> list[Cause]:
    """The code of a cancelled job that has not ended."""
    asked_at = facts.stopping_at
    if asked_at is None:
        return []
    node = node_name(facts)
    text = (
        f"its code on node {node} has not ended: it was asked to stop {since(facts, asked_at)} "
        f"ago, at {at_text(asked_at)}"
    )
    if facts.runner is not None and not facts.runner.alive:
        text += "; that node is silent, and a rescue lets go of the job"
    return [
        Cause(
            "stopping",
            text,
            "until it has, the job can be neither retried nor deleted, and counts for limits",
            {"node": node, "stopping_at": asked_at},
        )
    ]
