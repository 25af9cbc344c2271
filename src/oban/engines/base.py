"""The boundary to a database: every verb and its promise.

An engine's verbs build operations; `execute`, `execute_sync` and a `Session` carry them out. An
operation is a value: building one touches nothing, and the same operation can be sent over the
engine's own pool, over a connection that the caller lent, or from code without an event loop.
Nothing above this page sees SQL, rows, cursors or pools.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from oban.job import Job
from oban.outcome import Ack, AttemptKey

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Operation(Generic[T_co]):
    """What is to be done, and what it will return. Opaque above the engine."""

    __slots__ = ()

    name: str


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


@dataclass(frozen=True, slots=True)
class Turn:
    """What one round trip of a producer brought."""

    #: Ids of the acks that were still ours to save; the others are stale.
    acknowledged: frozenset[int]
    #: Ids of the acks whose rows somebody else has locked: still ours, to be sent again.
    held: frozenset[int]
    #: Claimed jobs, in the order in which they start: priority, time, id.
    claimed: tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class Staged:
    staged_count: int
    discarded_count: int
    #: Of the queues asked for, those with jobs to claim.
    available_queues: frozenset[str]
    #: Seconds until the next job is due, None when nothing is scheduled.
    next_due_in: float | None
    #: The database's clock, in seconds since 1970.
    at: float


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


@dataclass(frozen=True, slots=True)
class KnownProducer:
    """A producer of any node, as its record has it."""

    identity: ProducerIdentity
    started_at: datetime | None
    #: How many jobs name it as running them.
    running_count: int


# What is heard from the other nodes. Signals are hints: nothing is lost when they are.


@dataclass(frozen=True, slots=True)
class Inserted:
    """A queue has new available jobs."""

    queue: str


@dataclass(frozen=True, slots=True)
class Due:
    """A job was scheduled for soon, at this time of the database's clock."""

    at: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Somebody asks that this running job be stopped; look at its row first."""

    job_id: int


@dataclass(frozen=True, slots=True)
class Resync:
    """Signals may have been missed: everyone looks for themselves."""


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A payload that could not be read. Dropped, and never taken for a lost connection."""

    channel: str
    reason: str
    payload: str = field(repr=False)


Signal = Inserted | Due | Stop | Resync | Undecodable


@dataclass(frozen=True, slots=True)
class Traits:
    """How databases differ, for whoever has to know."""

    name: str
    max_insert_jobs: int
    max_insert_bytes: int


class Session(Protocol):
    """One connection of our own, opened when first needed and again after it broke."""

    async def execute(self, operation: Operation[T]) -> T:
        """Carry out `operation`.

        Raises `DatabaseUnavailable` when nothing was done, `OutcomeUnknown` when the connection
        broke or the answer took too long, `DataRefused` for a value the database does not take,
        `Contended` when other writers were in the way after some tries. Cancelling the wait
        closes the connection: what was sent may have been done.
        """
        ...

    async def close(self) -> None: ...


class Engine(Protocol):
    traits: Traits

    async def open(self) -> None:
        """Make ready to execute. Raises `SchemaError` when the tables are missing or too old."""
        ...

    async def close(self) -> None: ...

    async def execute(self, operation: Operation[T], conn: object | None = None) -> T:
        """Carry out `operation` in one transaction: the caller's when `conn` is given.

        On `conn` the driver's own errors are raised, and nothing is retried or committed.
        Raises `UnsupportedConnection` for a `conn` of a kind nobody knows.
        """
        ...

    def execute_sync(self, operation: Operation[T], conn: object | None = None) -> T:
        """The same from code without a running event loop."""
        ...

    def session(self, label: str) -> Session: ...

    def signals(self) -> AsyncIterator[Signal]:
        """Listen until closed; begins with, and after each gap repeats, a `Resync`."""
        ...

    # Verbs of a client

    def insert(self, jobs: Sequence[Job], *, notify: bool = True) -> Operation[list[Job]]:
        """Insert all or none; return copies with the database's values, in the same order."""
        ...

    def get(self, ids: Sequence[int]) -> Operation[list[Job]]:
        """The jobs that exist among `ids`, in that order."""
        ...

    def search(self, wanted: JobFilter) -> Operation[list[Job]]: ...

    def search_ids(self, wanted: JobFilter) -> Operation[list[int]]:
        """The ids that `search` would find, without reading the jobs."""
        ...

    def counts(self) -> Operation[list[JobCount]]:
        """How many jobs each queue has in each state. Reads every job: slow on large tables."""
        ...

    def known_producers(self) -> Operation[list[KnownProducer]]:
        """The producers recorded as ours, of all nodes; one that died is among them."""
        ...

    def cancel(self, ids: Sequence[int]) -> Operation[list[int]]:
        """Cancel what is unfinished, at once; running code is asked to stop. Ids that changed."""
        ...

    def retry(self, ids: Sequence[int]) -> Operation[list[int]]:
        """Make available what rests or waits; never what runs. Ids that changed."""
        ...

    def delete(self, ids: Sequence[int]) -> Operation[list[int]]:
        """Delete what does not run. Ids that are gone."""
        ...

    def update(
        self, ids: Sequence[int], changes: Callable[[Job], Mapping[str, Any]]
    ) -> Operation[list[Job]]:
        """Read, change and write under one lock; return the changed jobs that exist, in order."""
        ...

    # Verbs of a running node

    def register(self, producer: ProducerIdentity) -> Operation[None]:
        """Record that this producer is ours. Its claims return nothing before that."""
        ...

    def forget(self, producer: ProducerIdentity) -> Operation[None]:
        """Take the record away, unless a job still names the producer as running it."""
        ...

    def turn(self, producer: ProducerIdentity, acks: Sequence[Ack], demand: int) -> Operation[Turn]:
        """Save how attempts ended and claim up to `demand` jobs, in one round trip.

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
        """Make due jobs available; say which of `queues` have jobs and when to look again."""
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
