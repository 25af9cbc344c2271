"""Metrics: counts of what has ended, and sketches of how long it took and waited."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from oban.engines.operation import Operation
from oban.metrics import Scale, Series, Stat


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known before jobs that have ended are counted; times in seconds since 1970."""

    #: The database's clock.
    at: float
    #: The jobs that ended up to this time are counted.
    counted_to: float
    #: The transactions that write jobs and have not ended; what they wrote cannot be seen yet.
    writers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Counted:
    """How many were counted by one step, and up to where."""

    finished: int
    counted_to: float


@dataclass(frozen=True, slots=True)
class Times:
    """How long attempts that ended alike took and waited: sketches, see `oban.sketch`."""

    queue: str
    worker: str
    #: What their jobs became: a job that failed and is tried again became `retryable`.
    state: str
    exec: Mapping[int, int]
    wait: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class MetricFilter:
    """Whose metrics; what is None lets everything pass. And how many groups at most."""

    queue: str | None = None
    worker: str | None = None
    node: str | None = None
    state: str | None = None
    limit: int = 50


#: What nodes of other packages, and their dashboards, listen to.
Channel = Literal["gossip", "metrics", "cronitor"]


class MetricVerbs(Protocol):
    def count(self, until: Callable[[Outlook], float]) -> Operation[Counted]:
        """Count for metrics the jobs that ended up to the time that `until` says.

        Each that can be seen is counted once, whoever counts at the same time, or again.
        """
        ...

    def add_times(self, node: str, times: Sequence[Times]) -> Operation[None]:
        """Add to what is kept of how long attempts on this node took and waited."""
        ...

    def tend_metrics(self) -> Operation[bool]:
        """Make the next hour and day of what is in them, and forget what is old.

        Return whether there is more to do.
        """
        ...

    def broadcast(self, messages: Sequence[tuple[Channel, str]]) -> Operation[None]:
        """Tell others, all or nothing; each payload is JSON and takes at most 7,900 bytes."""
        ...

    def metrics(self, by: str, scale: Scale, wanted: MetricFilter) -> Operation[list[Series]]:
        """What ended of late, as it was kept: the first groups by what ended, the rest as `*`.

        All over the same points, the newest of which is not over yet.
        """
        ...

    def stats(
        self,
        path: Sequence[str],
        since: float | None,
        wanted: MetricFilter,
        patience: float,
        newest: int | None = None,
    ) -> Operation[list[Stat]]:
        """The jobs of the table by what `path` leads to; of these the groups with most jobs.

        Of those inserted within `since` seconds, or all. Reads every job, or so many of the
        `newest`: raises `TooSlow` when that takes longer than `patience` seconds.
        """
        ...
