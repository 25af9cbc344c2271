"""The states a job moves through, and which moves there are."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class JobState(StrEnum):
    AVAILABLE = "available"
    SCHEDULED = "scheduled"
    SUSPENDED = "suspended"
    EXECUTING = "executing"
    RETRYABLE = "retryable"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"


#: For what is done with each job: Python 3.11 runs code whenever a member is taken from its class.
AVAILABLE: Final = JobState.AVAILABLE
SUSPENDED: Final = JobState.SUSPENDED
EXECUTING: Final = JobState.EXECUTING
COMPLETED: Final = JobState.COMPLETED

FINAL: Final = frozenset({JobState.COMPLETED, JobState.CANCELLED, JobState.DISCARDED})
WAITING: Final = frozenset(
    {JobState.AVAILABLE, JobState.SCHEDULED, JobState.SUSPENDED, JobState.RETRYABLE}
)

#: Which states a job may move to, by any verb. `executing -> available` is a job given back.
MOVES: Final[Mapping[JobState, frozenset[JobState]]] = {
    JobState.AVAILABLE: frozenset(
        {JobState.EXECUTING, JobState.SCHEDULED, JobState.CANCELLED, JobState.DISCARDED}
    ),
    JobState.SCHEDULED: frozenset({JobState.AVAILABLE, JobState.CANCELLED}),
    JobState.SUSPENDED: frozenset({JobState.AVAILABLE, JobState.SCHEDULED, JobState.CANCELLED}),
    JobState.RETRYABLE: frozenset({JobState.AVAILABLE, JobState.CANCELLED}),
    JobState.EXECUTING: frozenset(JobState) - {JobState.EXECUTING, JobState.SUSPENDED},
    JobState.COMPLETED: frozenset({JobState.AVAILABLE}),
    JobState.CANCELLED: frozenset({JobState.AVAILABLE}),
    JobState.DISCARDED: frozenset({JobState.AVAILABLE}),
}


def states_before(state: JobState) -> list[JobState]:
    """The states from which a job may move to `state`, in the order of the enum."""
    return [each for each in JobState if state in MOVES[each]]
