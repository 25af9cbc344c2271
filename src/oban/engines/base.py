"""The boundary to a database: every verb and its promise.

An engine's verbs build operations; `execute`, `execute_sync` and a `Session` carry them out. An
operation is a value: building one touches nothing, and the same operation can be sent over the
engine's own pool, over a connection that the caller lent, or from code without an event loop.
Nothing above this page sees SQL, rows, cursors or pools.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from oban.engines.facts import JobFacts
from oban.engines.values import (
    Aspect,
    Beat,
    CensusCount,
    Channel,
    Commandable,
    Counted,
    Cursor,
    DueSlots,
    Intent,
    JobCount,
    JobFilter,
    JobPage,
    JobSearch,
    Keep,
    KnownProducer,
    LastSlot,
    MetricFilter,
    Outlook,
    Place,
    ProducerIdentity,
    Report,
    Rescued,
    Retried,
    Scheduled,
    Sighting,
    Signal,
    Staged,
    Times,
    ToldStack,
    Traits,
    Turn,
)
from oban.job import Job
from oban.limits import LimitInfo, Limits, Partition, QueueLimits
from oban.metrics import Scale, Series, Stat
from oban.outcome import Ack, AttemptKey

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Operation(Generic[T_co]):
    """What is to be done, and what it will return. Opaque above the engine."""

    __slots__ = ()

    name: str


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

    def session(self, label: str, patience: float | None = None) -> Session:
        """A connection of one's own, which waits `patience` seconds for an answer."""
        ...

    def signals(self) -> AsyncIterator[Signal]:
        """Listen until closed; begins with, and after each gap repeats, a `Resync`."""
        ...

    # Verbs of a client

    def insert(
        self, jobs: Sequence[Job], *, notify: bool = True, patience: float | None = None
    ) -> Operation[list[Job]]:
        """Insert all or none; return copies with the database's values, in the same order.

        In the place of a unique job that has a like stands that one. Where another transaction
        has its key, it is waited for; `patience` seconds at most, then it is `UniqueKeyBusy`.
        """
        ...

    def pour(
        self, jobs: Sequence[Job], *, notify: bool = True, patience: float | None = None
    ) -> Operation[int]:
        """Insert all or none; return how many, and nothing that would take memory."""
        ...

    def ring(self, queues: Sequence[str]) -> Operation[None]:
        """Tell the nodes that there are jobs in these queues."""
        ...

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

    def browse_ids(
        self, wanted: JobSearch, limit: int, cursor: Cursor | None = None, window: int = ...
    ) -> Operation[tuple[list[int], Cursor | None]]:
        """The ids on a page, and where the next one begins."""
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

    def ask_stack(self, job_id: int) -> Operation[datetime]:
        """Ask the node that runs the job where its code is; it answers by `tell_stack`. When."""
        ...

    def tell_stack(self, job_id: int, node: str, stack: str) -> Operation[None]: ...

    def told_stack(self, job_id: int) -> Operation[ToldStack | None]:
        """What was told of the job in the last minute."""
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

    def explain(self, identity: int) -> Operation[JobFacts | None]:
        """What tells why the job does not run, or how it ended; None when there is none.

        A few short reads, however many jobs and nodes there are.
        """
        ...

    def known_producers(self) -> Operation[list[KnownProducer]]:
        """The producers recorded as ours, of all nodes; one that died is among them."""
        ...

    def cancel(self, ids: Sequence[int]) -> Operation[list[int]]:
        """Cancel what is unfinished, at once; running code is asked to stop. Ids that changed."""
        ...

    def retry(self, ids: Sequence[int]) -> Operation[Retried]:
        """Make available what rests or waits; never what runs, nor what has a like meanwhile."""
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

    def register(self, producer: ProducerIdentity, max_age: float) -> Operation[None]:
        """Record that this producer is ours. Its claims return nothing before that.

        For one without a heartbeat, which may then be silent for `max_age` seconds.
        """
        ...

    def forget(self, uuids: Sequence[str]) -> Operation[None]:
        """Take these producers' records away, but those that a job still names as running it."""
        ...

    def beat(self, report: Report) -> Operation[Beat]:
        """Say that these producers live, record them as ours, and learn of all the others.

        Takes or renews the lease of the leader for a candidate, unless another holds it. Waits for
        no job's lock.
        """
        ...

    def resign(self, name: str, node: str, uuid: str) -> Operation[None]:
        """Free the lease if this uuid holds it, and tell the others."""
        ...

    def command(
        self,
        name: str,
        queue: str,
        node: str,
        aspects: Mapping[Aspect, Commandable],
        until: datetime | None = None,
    ) -> Operation[None]:
        """Store what is wanted of a queue, or of every one, on a node, or on all; tell the nodes.

        It holds until a newer command, a `reset`, or the time `until`.
        """
        ...

    def reset(self, name: str, queue: str, node: str | None) -> Operation[int]:
        """Forget what was commanded of a queue, or of every one; how much that was."""
        ...

    def intents(self, name: str) -> Operation[list[Intent]]:
        """What was commanded of an Oban's queues, the oldest first."""
        ...

    def open_slots(
        self, name: str, entries: Mapping[str, str], begin: datetime | None = None
    ) -> Operation[dict[str, datetime]]:
        """Up to which slot cron entries, given with their signatures, were seen to.

        One that is new or has another signature is stored as seen to up to `begin`, or else now.
        """
        ...

    def schedule(self, name: str, due: Sequence[DueSlots]) -> Operation[Scheduled]:
        """Move entries forward and insert the jobs of their slots, in one transaction.

        An entry that another leader has moved meanwhile is left alone: each slot is run once.
        """
        ...

    def pause_entry(self, name: str, entry: str, *, paused: bool) -> Operation[bool]:
        """Let the slots of a cron entry pass without a job, or no longer; whether there is one."""
        ...

    def last_slots(self, name: str) -> Operation[list[LastSlot]]: ...

    def rescue(
        self,
        silent: Sequence[Sighting],
        max_crashes: int,
        limit: int,
        ids: Sequence[int] | None = None,
    ) -> Operation[list[Rescued]]:
        """Take up to `limit` attempts away from producers that are as silent as they were seen.

        Of the jobs `ids`, or of any.

        A beat that came meanwhile saves its producer. An attempt that ran stays counted and gets an
        error; a job that ran in `max_crashes` processes when they died is discarded, zero turns
        that off. Locked rows are passed over. Correct however many do it at once.
        """
        ...

    def attempts_of(self, uuids: Sequence[str]) -> Operation[list[int]]:
        """The jobs that these producers have as running."""
        ...

    def rescue_old(self, age: float, limit: int) -> Operation[list[Rescued]]:
        """The same for attempts of ours that began `age` seconds ago, whoever runs them."""
        ...

    def prune(
        self,
        kept: Sequence[Keep],
        limit: int,
        *,
        counts: bool = False,
        spared: Sequence[int] = (),
        ids: Sequence[int] | None = None,
    ) -> Operation[int]:
        """Delete up to `limit` finished jobs of our queues that need not be kept. How many.

        All but `spared`, and only `ids` where they are given. What ended of late is left until it
        is counted for metrics, where somebody has counted of late, or is about to: `counts`.
        """
        ...

    def prunable(
        self,
        kept: Sequence[Keep],
        limit: int,
        *,
        counts: bool = False,
        spared: Sequence[int] = (),
    ) -> Operation[list[int]]:
        """What `prune` would delete."""
        ...

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

    def forget_silent(self) -> Operation[int]:
        """Forget producers that were silent for a day and that no job names. How many."""
        ...

    def open_limits(
        self,
        queue: str,
        partition: Partition | None,
        shared: Mapping[str, Limits],
        *,
        overrule: bool,
    ) -> Operation[None]:
        """Store what this node says of the queue's partitions, and of limits that queues share.

        Where others have said something else it stays, unless they are to be overruled.
        """
        ...

    def place(self, queue: str, limit: int) -> Operation[int]:
        """Put up to `limit` available jobs of the queue in the lane they belong in; how many."""
        ...

    def forget_limiters(self) -> Operation[int]:
        """Forget what was kept of partitions for long enough to mean nothing; how many."""
        ...

    def scale_limit(self, name: str, given: Mapping[Aspect, Commandable]) -> Operation[bool]:
        """Let other options hold for a shared limit, which the nodes do not overrule.

        Return whether there is such a limit.
        """
        ...

    def reset_limit(self, name: str) -> Operation[bool]:
        """Let what the nodes say of a shared limit hold again; whether something else did."""
        ...

    def shared_limits(self) -> Operation[list[LimitInfo]]:
        """All limits that queues share, by name."""
        ...

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
