"""Why a job does not run, or ended as it did: what `explain` returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from oban.job import Job


@dataclass(frozen=True, slots=True)
class Cause:
    #: A word for programs, such as `queue_paused`.
    code: str
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
