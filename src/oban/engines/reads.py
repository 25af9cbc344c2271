"""Reading jobs by what they are, and how many of them wait."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from oban.engines.operation import Operation
from oban.job import Job


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list, newest first; what is None or empty lets everything pass."""

    states: Sequence[str] | None = None
    queue: str | None = None
    worker: str | None = None
    tags: Sequence[str] | None = None
    args: Mapping[str, Any] | None = None
    meta: Mapping[str, Any] | None = None
    priority: int | None = None
    before_id: int | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class JobCount:
    queue: str
    #: A word that a newer package may have brought, not always a JobState.
    state: str
    count: int


class ReadVerbs(Protocol):
    def now(self) -> Operation[datetime]:
        """What time it is, by the database's clock."""
        ...

    def get(self, ids: Sequence[int]) -> Operation[list[Job]]:
        """The jobs that exist among `ids`, in that order."""
        ...

    def search(self, wanted: JobFilter) -> Operation[list[Job]]: ...

    def search_ids(self, wanted: JobFilter) -> Operation[list[int]]:
        """The ids that `search` would find, without reading the jobs."""
        ...

    def lags(self, queues: Sequence[str]) -> Operation[dict[str, float]]:
        """How many seconds the oldest available job of each queue has waited, if there is one."""
        ...

    def backlog(self) -> Operation[list[JobCount]]:
        """How many jobs each queue has in each state that is not an end. Reads those alone."""
        ...

    def counts(self) -> Operation[list[JobCount]]:
        """How many jobs each queue has in each state. Reads every job: slow on large tables."""
        ...
