"""Every option of an `Oban` and of its parts: named, defaulted and validated in one place.

A part that runs has one frozen class here; see `oban.part` for what an annotation says.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from oban.cron.zones import zone_named
from oban.errors import InvalidJob, InvalidOption
from oban.fields import MAX_ATTEMPTS, MAX_NAME_LENGTH
from oban.limits import Limits, Partition, QueueLimits, clean_limit_name
from oban.part import SECRET, TEXT, Part, Range, check_name, parse
from oban.periodic import Periodic, refuse_twins
from oban.states import FINAL

DAY: Final = 86_400
PREFIX: Final = Range(
    1, 40, "the prefix is part of a channel's name, of which PostgreSQL allows 63 bytes"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitOptions(Part):
    """How many jobs may start, on all nodes together, within any `period` seconds."""

    path: ClassVar[str] = "rate_limit."
    shorthand: ClassVar[str | None] = "allowed"

    allowed: Annotated[int, Range(1, 1_000_000_000)]
    period: Annotated[float, Range(0.1, 365 * DAY)] = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions(Part):
    """How one queue runs on one node. `limit` is how many of its jobs run there at once."""

    later: ClassVar[Mapping[str, object]] = {"burst": None}
    path: ClassVar[str] = "queue."
    shorthand: ClassVar[str | None] = "limit"

    limit: Annotated[int, Range(1, 1_000_000)] = 10
    paused: bool = False
    debounce_interval: Annotated[float, Range(0, 60)] = 0.005
    #: How many jobs may be claimed beyond the free slots: as its rate allows, or at most so many.
    claim_ahead: Annotated[int | Literal["auto"], Range(0, 10_000)] = "auto"
    #: How many of its jobs run at once on all nodes together.
    global_limit: Annotated[int | None, Range(1, 1_000_000)] = None
    rate_limit: RateLimitOptions | None = None
    #: What divides its jobs into partitions, for each of which these two hold; see `Partition`.
    partition: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        Part.__post_init__(self)
        if self.partition is not None:
            Partition.parse(f"{self.path}partition", self.partition)

    @property
    def limits(self) -> QueueLimits:
        rate = self.rate_limit
        return QueueLimits(
            self.global_limit,
            None if rate is None else rate.allowed,
            None if rate is None else rate.period,
            None if self.partition is None else Partition.parse("partition", self.partition),
        )

    @classmethod
    def parse(cls, name: str, given: object) -> Self:
        """The options of the queue `name` from a limit or a table."""
        return parse(cls, f"queues.{check_name('queue', name)}.", given)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitOptions(Part):
    """A limit that queues share: it holds for all jobs that name it."""

    path: ClassVar[str] = "limits."
    shorthand: ClassVar[str | None] = "global_limit"

    global_limit: Annotated[int | None, Range(1, 1_000_000)] = None
    rate_limit: RateLimitOptions | None = None

    def __post_init__(self) -> None:
        Part.__post_init__(self)
        if self.global_limit is None and self.rate_limit is None:
            raise InvalidOption(
                "a limit is given that limits nothing; it has a global_limit, a rate_limit or both"
            )

    @property
    def limits(self) -> Limits:
        rate = self.rate_limit
        if rate is None:
            return Limits(self.global_limit)
        return Limits(self.global_limit, rate.allowed, rate.period)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagerOptions(Part):
    """How jobs that are due become available: how often it looks, how many at a time."""

    path: ClassVar[str] = "stager."

    interval: Annotated[float, Range(0.01, 3_600)] = 1.0
    limit: Annotated[int, Range(1, 1_000_000)] = 20_000


#: Beats that may be missed, in intervals: after this long a process may be taken for dead.
SILENCE: Final = 10 / 3
LONGEST_SILENCE: Final = 10.0
#: One late beat is no death, whatever is asked for.
SHORTEST_SILENCE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RefresherOptions(Part):
    """The heartbeat of a process, and the silence after which the others take it for dead.

    Given one of them, `interval` and `max_age` keep their proportion. `max_age` is at least two
    intervals.
    """

    path: ClassVar[str] = "refresher."

    interval: Annotated[float, Range(0.05, 3_600)] = 3.0
    max_age: Annotated[float, Range(0.1, DAY)] = LONGEST_SILENCE
    #: After so many seconds in which a worker blocks the event loop the process counts as dead.
    max_block: Annotated[float, Range(1, DAY)] = 300.0

    @classmethod
    def derive(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        default = {each.name: each.default for each in fields(cls)}
        interval = given.get("interval")
        if interval is None:
            interval = min(default["interval"], given.get("max_age", LONGEST_SILENCE) / SILENCE)
        shortest = SHORTEST_SILENCE * interval
        max_age = given.get("max_age", max(shortest, min(LONGEST_SILENCE, interval * SILENCE)))
        if max_age < shortest:
            raise InvalidOption(
                f"refresher.max_age is {max_age:g} and refresher.interval is {interval:g}; the "
                f"first is at least two of the second: {shortest:g}, or give an interval of "
                f"{max_age / SILENCE:.3g}"
            )
        return {**given, "interval": interval, "max_age": max_age}

    @property
    def lease(self) -> float:
        """Seconds for which a leader is one without a further beat."""
        return 2 * self.interval


@dataclass(frozen=True, slots=True, kw_only=True)
class LifelineOptions(Part):
    """What becomes of the jobs of processes that died."""

    path: ClassVar[str] = "lifeline."

    #: How often it looks at what it has seen. It is woken when there is something to do.
    interval: Annotated[float, Range(0.05, 3_600)] = 2.0
    #: Seconds after which a job is taken away from whoever runs it, alive or not.
    rescue_after: Annotated[float | None, Range(1, 365 * DAY)] = None
    #: A job that ran in so many processes when they died is discarded; zero turns that off.
    max_crashes: Annotated[int, Range(0, 10_000)] = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepOptions(Part):
    """How long finished jobs are kept, and how many of the newest; what is None is no bound."""

    path: ClassVar[str] = "pruner."
    shorthand: ClassVar[str | None] = "max_age"

    max_age: Annotated[float | None, Range(0, 36_500 * DAY)] = None
    max_count: Annotated[int | None, Range(0, 1_000_000_000)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepQueueOptions(KeepOptions):
    """The same for one queue, and for its states."""

    states: Mapping[str, KeepOptions] = field(default_factory=dict)

    def __post_init__(self) -> None:
        KeepOptions.__post_init__(self)
        check_states(self.states)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunerOptions(KeepQueueOptions):
    """What is kept of finished jobs: of all, of a state, of a queue, of a state in a queue."""

    max_age: Annotated[float | None, Range(0, 36_500 * DAY)] = 86_400.0
    queues: Mapping[str, KeepQueueOptions] = field(default_factory=dict)
    enabled: bool = True
    interval: Annotated[float, Range(0.05, DAY)] = 60.0
    #: Jobs deleted by one statement.
    limit: Annotated[int, Range(1, 1_000_000)] = 20_000


def check_states(states: Mapping[str, object]) -> None:
    for state in states:
        if state not in FINAL:
            raise InvalidOption(
                f"pruner.states names {state!r}; only jobs that have ended are pruned: "
                f"{', '.join(sorted(FINAL))}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CronEntryOptions(Part):
    """An entry of the crontab that the configuration adds to those of the workers."""

    path: ClassVar[str] = "scheduler.entries."

    worker: str
    expr: str
    timezone: str | None = None
    name: str | None = None
    args: Mapping[str, Any] | None = None
    catch_up: str | None = None
    window: Annotated[float | None, Range(60, 365 * DAY)] = None
    overlap: str | None = None
    queue: str | None = None
    priority: Annotated[int | None, Range(0, 9)] = None
    max_attempts: Annotated[int | None, Range(1, MAX_ATTEMPTS)] = None
    tags: tuple[str, ...] | None = None
    meta: Mapping[str, Any] | None = None

    def periodic(self) -> Periodic:
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        worker = given.pop("worker")
        try:
            return Periodic.parse(
                worker, {name: value for name, value in given.items() if value is not None}
            )
        except InvalidJob as error:
            raise InvalidOption(f"scheduler.entries: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerOptions(Part):
    """The crontab: the zone of entries that name none, and entries beside those of the workers."""

    path: ClassVar[str] = "scheduler."

    timezone: str = "UTC"
    entries: tuple[CronEntryOptions, ...] = ()

    def __post_init__(self) -> None:
        Part.__post_init__(self)
        zone_named(self.timezone)
        refuse_twins(self.periodic)

    @property
    def periodic(self) -> tuple[Periodic, ...]:
        return tuple(entry.periodic() for entry in self.entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsOptions(Part):
    """Counts of what has ended and how long it took: kept in the database, told to others."""

    path: ClassVar[str] = "metrics."
    switch: ClassVar[Mapping[bool, Mapping[str, object]]] = {
        True: {"enabled": True, "broadcast": True},
        False: {"enabled": False},
    }

    enabled: bool = True
    #: How often what has ended is counted, and how long it took is written.
    interval: Annotated[float, Range(0.05, 300)] = 5.0
    #: Whether nodes of other packages, and their dashboards, are told as well.
    broadcast: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions(Part):
    """The pool of connections that enqueues and manages."""

    path: ClassVar[str] = "pool_"

    min_size: Annotated[int, Range(0, 10_000)] = 1
    max_size: Annotated[int, Range(1, 10_000)] = 10
    timeout: Annotated[float, Range(0.01, DAY)] = 30.0
    max_lifetime: Annotated[float, Range(1, 365 * DAY)] = 3_600.0
    max_idle: Annotated[float, Range(1, 365 * DAY)] = 600.0
    #: Whether a connection is tried before it is handed out.
    check: bool = False

    def __post_init__(self) -> None:
        Part.__post_init__(self)
        if self.min_size > self.max_size:
            raise InvalidOption(
                f"pool_min_size is {self.min_size} and pool_max_size is {self.max_size}; "
                "the first is at most the second"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(Part):
    """What a whole `Oban` is told. Without queues it is a client: it runs nothing."""

    later: ClassVar[Mapping[str, object]] = {
        "notifier": None,
        "dispatcher": None,
    }

    name: Annotated[str, Range(1, MAX_NAME_LENGTH)] = "Oban"
    node: Annotated[str, Range(1, 255)] = field(default_factory=socket.gethostname)
    prefix: Annotated[str, PREFIX] = "public"
    queues: Mapping[str, QueueOptions] = field(default_factory=dict)
    #: Limits that jobs of any queue name.
    limits: Mapping[str, LimitOptions] = field(default_factory=dict)
    #: Whether this process may lead; by default it may if it runs queues.
    leadership: bool | None = None
    stager: StagerOptions = field(default_factory=StagerOptions)
    refresher: RefresherOptions = field(default_factory=RefresherOptions)
    lifeline: LifelineOptions = field(default_factory=LifelineOptions)
    scheduler: SchedulerOptions = field(default_factory=SchedulerOptions)
    pruner: PrunerOptions = field(default_factory=PrunerOptions)
    metrics: MetricsOptions = field(default_factory=MetricsOptions)
    #: How long running jobs are waited for before they are stopped and given back.
    shutdown_grace_period: Annotated[float, Range(0, DAY)] = 15.0
    #: How long a cancelled job may go on before its task is cancelled.
    cancel_grace_period: Annotated[float, Range(0, DAY)] = 5.0
    #: Child processes for jobs with executor="process"; None is one for each core.
    process_pool_size: Annotated[int | None, Range(1, 1_024)] = None
    #: What is opened once for all jobs: names, and "module:function" of what opens each.
    resources: Mapping[str, str] = field(default_factory=dict)
    #: What encrypts arguments, the first of them, and what decrypts them, each.
    encryption_keys: Annotated[tuple[str, ...], SECRET] = field(default=(), repr=False)
    #: What runs around every job: "module:object" for each.
    hooks: tuple[str, ...] = ()
    #: Where to LISTEN when the pool's connections cannot, as behind PgBouncer.
    listen_dsn: Annotated[str | None, TEXT, SECRET] = field(default=None, repr=False)
    #: The modules a job's worker may be imported from; None leaves it to the application root.
    worker_modules: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        Part.__post_init__(self)
        for name in self.limits:
            clean_limit_name(name)

    @property
    def leads(self) -> bool:
        return bool(self.queues) if self.leadership is None else self.leadership

    @classmethod
    def parse(cls, given: Mapping[str, object]) -> Self:
        """Options from plain values, as from the arguments of `Oban` or a file; None is unset."""
        return parse(cls, cls.path, given)


#: Options that are objects of a program, and so cannot stand in a file.
OBJECTS: Final = frozenset({"notifier", "dispatcher"})
