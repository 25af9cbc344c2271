"""A queue at work: jobs become available, are claimed, run, and are acknowledged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from oban.engines.operation import Operation
from oban.job import Job
from oban.limits import QueueLimits
from oban.outcome import Ack, AttemptKey


@dataclass(frozen=True, slots=True)
class ProducerIdentity:
    """Who claims: `(job id, attempt, uuid)` is the fence around every write for a run."""

    uuid: str
    name: str
    node: str
    queue: str

    @property
    def label(self) -> str:
        """What the database calls this producer's session."""
        return f"oban {self.uuid}"


class Place(NamedTuple):
    """Where a job stands in its queue: jobs are claimed in the order of this."""

    priority: int
    #: As the database writes it, to the microsecond, or infinite.
    scheduled_at: str
    id: int


@dataclass(frozen=True, slots=True)
class Turn:
    """What one round trip of a producer brought."""

    #: Ids of the acks that were still ours to save; the others are stale.
    acknowledged: frozenset[int]
    #: Ids of the acks whose rows somebody else has locked: still ours, to be sent again.
    held: frozenset[int]
    #: Claimed jobs, in the order in which they start: priority, time, id.
    claimed: tuple[Job, ...]
    #: Where the last of them stood, None if there is none.
    last: Place | None
    #: Seconds until the queue's rate allows more, None where that is not all that is in the way.
    again_in: float | None = None
    #: The lane behind which the next claim goes on, where there were more than one claim looks at.
    last_lane: str | None = None
    #: Shared limits that jobs of the queue name and nobody has defined: these jobs wait.
    unknown_limits: Sequence[str] = ()
    #: Shared limits that the first jobs are too heavy for, where nothing else could be claimed.
    refusing: Sequence[str] = ()
    #: Whether jobs of the queue pass a rate that it shares with others.
    is_rated: bool = False


@dataclass(frozen=True, slots=True)
class Head:
    """The first job of a queue that can be claimed."""

    place: Place
    #: How long the database took to find it, in seconds of its own.
    sought_for: float
    #: Whether jobs of the queue stand in a lane.
    is_laned: bool = False


@dataclass(frozen=True, slots=True)
class Staged:
    staged_count: int
    discarded_count: int
    #: Of the queues asked for, those with jobs to claim, and where the first of them stands.
    heads: Mapping[str, Head]
    #: Seconds until the next job is due, None when nothing is scheduled.
    next_due_in: float | None
    #: The database's clock, in seconds since 1970.
    at: float
    #: Of the queues asked for, those with jobs that are not in the lane they belong in.
    misplaced: Sequence[str] = ()

    @property
    def available_queues(self) -> frozenset[str]:
        return frozenset(self.heads)


class RunVerbs(Protocol):
    def turn(
        self,
        producer: ProducerIdentity,
        acks: Sequence[Ack],
        demand: int,
        start: Place | None = None,
        limits: QueueLimits | None = None,
        *,
        from_lane: str | None = None,
        skipped: Sequence[str] = (),
        any_lane: bool = False,
    ) -> Operation[Turn]:
        """Save how attempts ended and claim up to `demand` jobs, in one round trip.

        With `start`, of those that stand there or behind. Without `limits` only jobs that have none
        to pass are claimed, unless those in `any_lane` are asked for. With them, which may be none
        for the queue itself, no more is claimed than the queue's limits and shared ones allow, over
        all nodes; where a turn has said its `last_lane`, from behind that, and without the jobs of
        what it has named as `refusing`.

        All or nothing. An attempt rescued, cancelled or deleted meanwhile is left alone and is
        missing from the result; sending the same ack twice changes nothing. Never waits for a row
        that somebody else has locked. Raises `DataRefused` at once for acks that are too large
        together for one statement.
        """
        ...

    def end_lost_turns(self, producer: ProducerIdentity) -> Operation[None]:
        """Make sure that no turn of a lost connection is still on its way.

        Raises `DatabaseUnavailable` when one cannot be ended yet.
        """
        ...

    def give_back(
        self, producer: ProducerIdentity, kept: Sequence[AttemptKey] = ()
    ) -> Operation[list[int]]:
        """Make this producer's attempts available again, uncounted, except for `kept`."""
        ...

    def stopped(
        self, producer: ProducerIdentity, running: Sequence[AttemptKey]
    ) -> Operation[frozenset[AttemptKey]]:
        """Of `running`, the attempts that are no longer this producer's to run."""
        ...

    def stage(self, queues: Sequence[str], limit: int) -> Operation[Staged]:
        """Make due jobs available; say where `queues` begin and when to look again."""
        ...

    def hasten(self, queue: str) -> Operation[int]:
        """Make all scheduled and retryable jobs of `queue` available; return how many.

        They keep their time, and so their order. For whoever claims them right after: nobody is
        notified.
        """
        ...

    def clear(self) -> Operation[int]:
        """Delete every job, running or not, and what is kept of queues nobody runs. How many."""
        ...
