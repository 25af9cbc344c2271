"""Pages of jobs for people, as soon as any however many jobs there are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, NamedTuple, Protocol, TypeVar

from oban.engines.operation import Operation
from oban.job import Job

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PathValue:
    """A value within args or meta, as text: `42` is both the number and the text."""

    field: Literal["args", "meta"]
    keys: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class JobSearch:
    """Which jobs to browse, of one state or of all; what is None or empty lets everything pass."""

    state: str | None = None
    queue: str | None = None
    worker: str | None = None
    #: A piece of the worker's name, in letters of any case.
    worker_like: str | None = None
    #: The node that its last attempt ran on.
    node: str | None = None
    tags: Sequence[str] = ()
    priority: int | None = None
    ids: Sequence[int] = ()
    paths: Sequence[PathValue] = ()
    #: Something has happened to the job since then.
    since: datetime | None = None
    #: No greater id: jobs that came later are left alone.
    up_to: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether every job of the state, and of the queue if one is named, matches.

        But for those that came later, which are few.
        """
        return replace(self, state=None, queue=None, up_to=None) == EVERY_JOB


EVERY_JOB: Final = JobSearch()
#: Under this key of `Job.extra` stands how large arguments are that were not read.
ARGS_BYTES: Final = "args_bytes"


class Cursor(NamedTuple):
    """Behind which job a page begins: its place in the order that its state is read in."""

    id: int | None
    moment: str | None
    rank: int | None


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs as a list shows them: without meta and errors, and without arguments that are large.

    How many bytes those take stands in `extra` under `ARGS_BYTES`.
    """

    jobs: Sequence[Job]
    #: Where the next page begins, None where there is none.
    next: Cursor | None
    #: Whether it holds less than was wanted although there may be more: so many were looked at.
    is_cut: bool


@dataclass(frozen=True, slots=True)
class CensusCount:
    queue: str
    worker: str
    #: A word that a newer package may have brought, not always a JobState.
    state: str
    count: int


class BrowsingVerbs(Protocol):
    def browse(
        self, wanted: JobSearch, limit: int, cursor: Cursor | None = None, window: int = ...
    ) -> Operation[JobPage]:
        """A page of jobs, in the order of their state.

        Available: as they are claimed. Scheduled and retryable: the soonest first. Executing and
        finished: the last that began, or ended, first. Else those with the greatest id first. Looks
        at about `window` jobs and no more, so that it takes as long however rare those are that
        match; a page may hold less than `limit`, or nothing, and yet have a next one.
        """
        ...

    def browse_ids(
        self, wanted: JobSearch, limit: int, cursor: Cursor | None = None, window: int = ...
    ) -> Operation[tuple[list[int], Cursor | None]]:
        """The ids on a page, and where the next one begins."""
        ...

    def newest_id(self) -> Operation[int]:
        """The greatest id of all jobs: what comes later has a greater one. Zero without any."""
        ...

    def last_runs(
        self, entries: Sequence[str], known: Sequence[int], limit: int, window: int = ...
    ) -> Operation[dict[str, list[Job]]]:
        """The last `limit` jobs of each cron entry, the newest first, as a list shows them.

        Among the `window` newest jobs and those that are `known`, however old these are.
        """
        ...

    def count_matching(self, wanted: JobSearch, most: int) -> Operation[int]:
        """How many jobs match; counts to `most` and no further. May read every job."""
        ...

    def census(self) -> Operation[list[CensusCount]]:
        """How many jobs of each worker each queue has in each state. Reads every job."""
        ...

    def estimate(self) -> Operation[dict[str, int]]:
        """About how many jobs are in each state, at once however many there are."""
        ...

    def within(self, operation: Operation[T], seconds: float) -> Operation[T]:
        """The same, of which no statement takes longer: then it is `TooSlow`."""
        ...
