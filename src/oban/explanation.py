"""Why a job does not run, or ended as it did: what `explain` returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from oban.job import Job

#: The words for programs. Once given, a word keeps its meaning.
Code = Literal[
    # Available
    "no_attempt_left",
    "queue_stopped",
    "no_node",
    "queue_paused",
    "unplaced",
    "unknown_limit",
    "limit_resting",
    "global_limit_full",
    "partition_full",
    "shared_limit_full",
    "rate_used",
    "node_reserved",
    "slots_busy",
    "runs_alone",
    "jobs_ahead",
    "loop_blocked",
    "polling",
    "deadline_passed",
    "just_available",
    "no_cause",
    # Scheduled, retryable, suspended
    "overdue",
    "scheduled",
    "snoozed",
    "backoff",
    "unknown_worker",
    "suspended",
    # Executing, or cancelled and being stopped
    "running",
    "not_begun",
    "node_silent",
    "foreign",
    "past_timeout",
    "node_stopping",
    "stopping",
    # Ended
    "completed",
    "cancelled",
    "cancelled_itself",
    "deadline_missed",
    "discarded",
    "discarded_itself",
    "attempts_exhausted",
    "rescued_exhausted",
    "suspect",
    # Unique keys
    "unique",
    "unique_lost",
    "unique_elsewhere",
    # A state that a newer package brought
    "unknown_state",
]


@dataclass(frozen=True, slots=True)
class Cause:
    code: Code
    #: The same for people.
    text: str
    #: What to do about it, where something can be done.
    advice: str | None = None
    #: The numbers and names in the text.
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Explanation:
    job: Job
    #: In one line: what the job does, and the first cause.
    summary: str
    #: The most telling first; those of a job that waits may all hold at once.
    causes: tuple[Cause, ...]
