"""What is said of a job in each state."""

from oban.engines.explain import JobFacts
from oban.explaining import due, ended, keys, running, waiting
from oban.explaining.words import since
from oban.explanation import Cause, Explanation
from oban.phrases import length_text
from oban.states import JobState


def explain(facts: JobFacts) -> Explanation:
    """Say why the job is in its state, whatever stands in its row."""
    causes = (*causes_of(facts), *keys.causes(facts))
    return Explanation(facts.job, f"{headline(facts)}: {causes[0].text}", causes)


def causes_of(facts: JobFacts) -> list[Cause]:
    state: str = facts.job.state  # a newer package may have brought another
    match state:
        case JobState.AVAILABLE:
            return waiting.causes(facts)
        case JobState.SCHEDULED | JobState.RETRYABLE:
            return due.causes(facts)
        case JobState.SUSPENDED:
            return [due.suspended(facts)]
        case JobState.EXECUTING:
            return running.causes(facts)
        case JobState.COMPLETED:
            return ended.completed(facts)
        case JobState.CANCELLED:
            return [*running.stopping(facts), *ended.cancelled(facts)]
        case JobState.DISCARDED:
            return ended.discarded(facts)
        case _:
            text = f"nothing is known here of the state {state}"
            return [Cause("unknown_state", text, "see whether this package is up to date")]


def headline(facts: JobFacts) -> str:
    job = facts.job
    match job.state:
        case JobState.AVAILABLE:
            return f"it has waited for {since(facts, job.scheduled_at)}"
        case JobState.SCHEDULED | JobState.RETRYABLE:
            left = due.seconds_left(facts)
            return f"it is due in {length_text(left)}" if left >= 0 else "it is overdue"
        case JobState.EXECUTING:
            return f"it has run for {since(facts, job.attempted_at)}"
        case JobState.COMPLETED:
            return f"it completed {since(facts, job.completed_at)} ago"
        case JobState.CANCELLED:
            return f"it was cancelled {since(facts, job.cancelled_at)} ago"
        case JobState.DISCARDED:
            return f"it was discarded {since(facts, job.discarded_at)} ago"
        case _:
            return f"it is {job.state}"
