"""What an engine takes and gives beside jobs: plain values, without I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from oban.job import Job
from oban.outcome import AttemptKey


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


@dataclass(frozen=True, slots=True)
class Retried:
    """What came of retrying jobs; those that are in neither list could not be retried."""

    ids: Sequence[int]
    #: Those whose unique key a job like them has taken.
    conflicted: Sequence[int] = ()


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


@dataclass(frozen=True, slots=True)
class JobCount:
    queue: str
    #: A word that a newer package may have brought, not always a JobState.
    state: str
    count: int


@dataclass(frozen=True, slots=True)
class KnownProducer:
    """A producer of any node: its record, and what its last heartbeat said."""

    identity: ProducerIdentity
    started_at: datetime | None
    #: How many jobs name it as running them.
    running_count: int
    #: What it told with its last heartbeat, empty where there is none.
    meta: Mapping[str, Any]
    #: Seconds since that, by the database's clock.
    beat_age: float | None
    #: After so many seconds of silence it may be taken for dead.
    max_age: float

    @property
    def alive(self) -> bool:
        return self.beat_age is not None and self.beat_age <= self.max_age


@dataclass(frozen=True, slots=True)
class ToldStack:
    """Where the code of a running job was, as its node has told."""

    node: str
    told_at: datetime
    stack: str


# Heartbeats: what a process tells, and what it learns with the same statement.


@dataclass(frozen=True, slots=True)
class Pulse:
    """What one producer tells with a heartbeat."""

    identity: ProducerIdentity
    started_at: datetime
    #: For anybody to read. A rescue reads `running` (ids whose code has begun and whose end is not
    #: saved), `processed_at` (a claim up to this time of the database's clock has been started, or
    #: stands in `running`) and `shutdown_started_at`.
    meta: Mapping[str, Any]
    #: The attempts that run here, wait to begin, or wait for their end to be saved.
    in_hand: Sequence[AttemptKey]


@dataclass(frozen=True, slots=True)
class Sighting:
    """Another producer of ours: when it last gave a sign of life, None where there is no trace."""

    identity: ProducerIdentity
    #: By the database's clock, to be compared with another sighting and with nothing else.
    beat_at: float | None
    max_age: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a process tells with a heartbeat."""

    #: The name of its Oban, and the node it runs on.
    name: str
    node: str
    pulses: Sequence[Pulse]
    #: Whoever sees no new beat for so many seconds may take its producers for dead.
    max_age: float
    #: The uuid under which the process would lead, None when it does not want to.
    candidate: str | None
    #: For how many seconds it then leads without a further beat.
    lease: float


@dataclass(frozen=True, slots=True)
class Lease:
    """Who leads, and for how many seconds from now."""

    uuid: str
    node: str
    #: Counts the leaders that came to it by an election.
    epoch: int
    expires_in: float


Aspect = Literal["running", "limit", "paused", "global_limit", "rate_limit"]

#: What was commanded of an aspect; a rate is a table as in `RateLimitOptions`.
Commandable = bool | int | Mapping[str, float]

#: All queues, or all nodes.
EVERY: Final = "*"


@dataclass(frozen=True, slots=True)
class Intent:
    """What somebody commanded of a queue, or of all; of one node, or of all."""

    queue: str
    node: str
    aspect: Aspect
    value: Commandable
    #: Of two commands that concern the same queue the one with the greater version is newer.
    version: int
    set_at: datetime
    #: In how many seconds it ends by itself, None when it does not.
    expires_in: float | None = None

    def concerns(self, queue: str, node: str) -> bool:
        return self.queue in (queue, EVERY) and self.node in (node, EVERY)


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat brought back."""

    #: The database's clock, in seconds since 1970.
    at: float
    #: By uuid, what was in hand and is no longer this producer's to run.
    lost: Mapping[str, frozenset[AttemptKey]]
    #: The producers of this process with rows that execute and that they do not have in hand.
    astray: frozenset[str]
    others: tuple[Sighting, ...]
    lease: Lease | None
    #: All that were commanded of this Oban's queues and are not over.
    intents: tuple[Intent, ...]


# The calendar: slots are the times at which a cron entry is due.


@dataclass(frozen=True, slots=True)
class DueSlots:
    """The jobs of the slots of one entry that are due, the last one at `slot`."""

    entry: str
    #: Up to which slot the entry had been seen to when this was found out.
    before: datetime
    slot: datetime
    jobs: Sequence[Job]
    #: Whether they are left out while the entry's last job is not finished.
    exclusive: bool = False


@dataclass(frozen=True, slots=True)
class Scheduled:
    """What became of due slots."""

    #: The entries that moved forward; another leader moved the others.
    moved: frozenset[str]
    #: Of these, those without a job, because the last one is not finished.
    overlapping: frozenset[str]
    jobs: tuple[Job, ...]
    #: Those without a job because somebody has paused them.
    paused: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class LastSlot:
    """Where an entry stands."""

    entry: str
    #: Up to which slot it was seen to.
    slot: datetime
    #: The slot of its last job, None while it never had one.
    job_slot: datetime | None
    job_id: int | None
    #: How a leader has read it last.
    expr: str
    timezone: str
    #: Since when its slots pass without a job, None where they do not.
    paused_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Keep:
    """How long finished jobs of a queue and state are kept, and how many of them."""

    #: None is for all queues without a rule of their own.
    queue: str | None
    state: str
    max_age: float | None
    max_count: int | None


#: What became of an attempt whose producer died. `stopped` was cancelled before; `given back` had
#: not begun, or its process was shutting down; the last two are discarded.
Fate = Literal["rescued", "given back", "stopped", "exhausted", "suspect"]


@dataclass(frozen=True, slots=True)
class Rescued:
    id: int
    queue: str
    #: The producer that had it.
    uuid: str
    fate: Fate


# Metrics: counts of what has ended, and sketches of how long it took and waited.


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
class Resigned:
    """The leader of the Oban of this name has stepped down."""

    name: str


@dataclass(frozen=True, slots=True)
class Commanded:
    """Somebody has commanded something of the queues of the Oban of this name."""

    name: str
    #: How many signals to the nodes of other packages come with it: they are not for ours.
    echo_count: int = 0


@dataclass(frozen=True, slots=True)
class ForeignCommand:
    """Another package's command: it acts in memory, and is stored nowhere."""

    action: Literal["pause", "resume", "start", "stop", "scale"]
    queue: str
    #: `any`, or the only instance that is meant, as `name.node`.
    ident: str
    limit: int | None = None
    paused: bool | None = None


@dataclass(frozen=True, slots=True)
class Resync:
    """Signals may have been missed: everyone looks for themselves."""


@dataclass(frozen=True, slots=True)
class Deaf:
    """Signals do not come, for this reason: everyone polls."""

    reason: str


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A payload that could not be read. Dropped, and never taken for a lost connection."""

    channel: str
    reason: str
    payload: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class UniqueLost:
    """A job came to count as unique again, and its like had taken its key: it goes on without."""

    job_id: int


@dataclass(frozen=True, slots=True)
class StackAsked:
    """Somebody wants to see where the code of this job is."""

    job_id: int


Signal = (
    Inserted
    | Due
    | Stop
    | Resigned
    | Commanded
    | ForeignCommand
    | UniqueLost
    | StackAsked
    | Resync
    | Deaf
    | Undecodable
)


@dataclass(frozen=True, slots=True)
class Traits:
    """How databases differ, for whoever has to know."""

    name: str
    max_insert_jobs: int
    max_insert_bytes: int
