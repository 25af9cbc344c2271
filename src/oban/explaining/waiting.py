"""Why a job that is available has not been claimed."""

from typing import Final

from oban.engines.explain import MOST_AHEAD, JobFacts
from oban.explaining import limits, nodes
from oban.explaining.words import at_text, meta_of, read_moment, seconds_since
from oban.explanation import Cause
from oban.phrases import counted, length_text
from oban.running.executor import count
from oban.running.solitude import is_suspect
from oban.states import JobState
from oban.worker.execution import DEADLINE

#: Seconds in which a job is claimed where nothing keeps it, beats and polls included.
SOON: Final = 5.0


def causes(facts: JobFacts) -> list[Cause]:
    if facts.job.attempt >= facts.job.max_attempts:
        return [exhausted(facts), *nodes.obstacles(facts)]
    found = [
        *nodes.obstacles(facts),
        *unplaced(facts),
        *limits.causes(facts),
        *nodes.reserved(facts),
        *nodes.full(facts),
        *nodes.partly_paused(facts),
        *alone(facts),
        *behind(facts),
        *nodes.hindered(facts),
        *too_late(facts),
    ]
    return found or [ready(facts)]


def exhausted(facts: JobFacts) -> Cause:
    job = facts.job
    return Cause(
        "no_attempt_left",
        f"it has no attempt left ({job.attempt} of {job.max_attempts}): nobody claims it, and the "
        "stager of a node that runs its queue discards it",
        None,
        {"attempt": job.attempt, "max_attempts": job.max_attempts},
    )


def unplaced(facts: JobFacts) -> list[Cause]:
    if not facts.is_unplaced:
        return []
    return [
        Cause(
            "unplaced",
            f"queue {facts.job.queue} is partitioned, and it is in no partition yet: the stagers "
            "of its nodes put it there, 20,000 jobs a second",
            "inserts by SQL can give it: oban_lane_of(queue, worker, args, meta) as lane",
            {"queue": facts.job.queue},
        )
    ]


def alone(facts: JobFacts) -> list[Cause]:
    if not is_suspect(facts.job):
        return []
    crashes = count(facts.job, "crashes")
    is_waiting = facts.job.state == JobState.AVAILABLE
    then = "waits for one that runs nothing else" if is_waiting else "is to run alone there"
    return [
        Cause(
            "runs_alone",
            f"{crashes} processes died while they ran it: it {then}",
            None,
            {"crashes": crashes},
        )
    ]


def behind(facts: JobFacts) -> list[Cause]:
    ahead = facts.ahead_count
    if not ahead:
        return []
    told = f"more than {MOST_AHEAD:,} jobs" if ahead > MOST_AHEAD else counted(ahead, "job")
    stand = "stands" if ahead == 1 else "stand"
    text = f"{told} {stand} before it in queue {facts.job.queue}"
    if any(room.scope == "partition" for room in facts.rooms):
        text = f"{told} {stand} before it in its partition"
    if facts.oldest_wait is not None:
        text += f"; the oldest of the queue has waited for {length_text(facts.oldest_wait)}"
    details = {"count": ahead, "oldest_wait": facts.oldest_wait}
    return [Cause("jobs_ahead", text, None, details)]


def too_late(facts: JobFacts) -> list[Cause]:
    deadline = read_moment(meta_of(facts.job).get(DEADLINE))
    if deadline is None or deadline > facts.at:
        return []
    text = f"its deadline was {at_text(deadline)}: it will be cancelled when it is claimed"
    return [Cause("deadline_passed", text, None, {"deadline": deadline})]


def ready(facts: JobFacts) -> Cause:
    if (seconds_since(facts, facts.job.scheduled_at) or 0.0) < SOON:
        text = "nothing keeps it: a node is about to claim it"
        return Cause("just_available", text, "look again in a moment")
    where = nodes.names(nodes.at_work(facts))
    return Cause(
        "no_cause",
        "nothing in the tables keeps it from being claimed",
        f"see the log of {where} for oban.producer.outage; a transaction that has the row locked "
        "keeps it too, see pg_stat_activity",
    )
