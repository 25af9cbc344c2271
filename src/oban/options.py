"""Every option of an `Oban` and of its parts: named, defaulted and validated in one place.

A part that runs has one frozen class here. The annotation of a field is its whole rule, so that
adding an option is adding a line: the type, and in `Annotated` the range and whether it is secret.
"""

import socket
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Final, Self, TypeVar, get_args, get_origin

from oban.cron.zones import zone_named
from oban.errors import InvalidJob, InvalidOption
from oban.fields import MAX_ATTEMPTS, MAX_NAME_LENGTH, clean_name, clean_object, clean_text
from oban.job import FINAL
from oban.periodic import Periodic, refuse_twins


@dataclass(frozen=True, slots=True)
class Range:
    """What a number, or the size of a text in bytes, may be; `why` explains the bound."""

    low: int | float
    high: int | float
    why: str = ""


#: Marks text that may hold a password: messages never quote it, and the field hides it in `repr`.
SECRET: Final = "secret"  # noqa: S105  # a mark, not a password

DAY: Final = 86_400
TEXT: Final = Range(1, 4_096)
PREFIX: Final = Range(
    1, 40, "the prefix is part of a channel's name, of which PostgreSQL allows 63 bytes"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Options that hold only valid values, however they were built."""

    #: What stands before an option's name in a message.
    path: ClassVar[str] = ""
    #: The option that a bare value stands for.
    shorthand: ClassVar[str | None] = None

    @classmethod
    def derive(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Fill in the options whose defaults depend on what is given for others."""
        return given

    def __post_init__(self) -> None:
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        for name, value in check(type(self), self.path, given).items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions(Part):
    """How one queue runs on one node. `limit` is how many of its jobs run there at once."""

    path: ClassVar[str] = "queue."
    shorthand: ClassVar[str | None] = "limit"

    limit: Annotated[int, Range(1, 1_000_000)] = 10
    paused: bool = False
    debounce_interval: Annotated[float, Range(0, 60)] = 0.005

    @classmethod
    def parse(cls, name: str, given: object) -> Self:
        """The options of the queue `name` from a limit or a table."""
        return parse(cls, f"queues.{check_name('queue', name)}.", given)


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
        max_age = given.get("max_age", min(LONGEST_SILENCE, interval * SILENCE))
        return {
            **given,
            "interval": interval,
            "max_age": max(max_age, SHORTEST_SILENCE * interval),
        }

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

    name: Annotated[str, Range(1, MAX_NAME_LENGTH)] = "Oban"
    node: Annotated[str, Range(1, 255)] = field(default_factory=socket.gethostname)
    prefix: Annotated[str, PREFIX] = "public"
    queues: Mapping[str, QueueOptions] = field(default_factory=dict)
    #: Whether this process may lead; by default it may if it runs queues.
    leadership: bool | None = None
    stager: StagerOptions = field(default_factory=StagerOptions)
    refresher: RefresherOptions = field(default_factory=RefresherOptions)
    lifeline: LifelineOptions = field(default_factory=LifelineOptions)
    scheduler: SchedulerOptions = field(default_factory=SchedulerOptions)
    pruner: PrunerOptions = field(default_factory=PrunerOptions)
    #: How long running jobs are waited for before they are stopped and given back.
    shutdown_grace_period: Annotated[float, Range(0, DAY)] = 15.0
    #: How long a cancelled job may go on before its task is cancelled.
    cancel_grace_period: Annotated[float, Range(0, DAY)] = 5.0
    #: Where to LISTEN when the pool's connections cannot, as behind PgBouncer.
    listen_dsn: Annotated[str | None, TEXT, SECRET] = field(default=None, repr=False)
    #: The modules a job's worker may be imported from; None leaves it to the application root.
    worker_modules: tuple[str, ...] | None = None

    @property
    def leads(self) -> bool:
        return bool(self.queues) if self.leadership is None else self.leadership

    @classmethod
    def parse(cls, given: Mapping[str, object]) -> Self:
        """Options from plain values, as from the arguments of `Oban` or a file; None is unset."""
        return parse(cls, cls.path, given)


#: Options that are objects of a program, and so cannot stand in a file.
OBJECTS: Final = frozenset({"notifier", "dispatcher"})

#: Options that exist elsewhere and come in later versions, each with the value that means nothing.
LATER: Final[Mapping[str, Mapping[str, object]]] = {
    "Options": {
        "limits": None,
        "metrics": None,
        "notifier": None,
        "dispatcher": None,
    },
    "QueueOptions": {
        "burst": None,
        "claim_ahead": "auto",
        "global_limit": None,
        "partition": None,
        "rate_limit": None,
    },
}

P = TypeVar("P", bound=Part)


def parse(part: type[P], path: str, given: object) -> P:
    """Build `part` from a table, or from the bare value it has a shorthand for."""
    if isinstance(given, part):
        return given
    bare = isinstance(given, str | int | float) and not isinstance(given, bool)
    table = {part.shorthand: given} if part.shorthand and bare else given
    if not isinstance(table, Mapping):
        short = f"a {part.shorthand} or " if part.shorthand else ""
        raise InvalidOption(
            f"{path.rstrip('.')} is {given!r:.80}; it is {short}a table of {', '.join(rules(part))}"
        )
    known = rules(part)
    given = {key: value for key, value in table.items() if value is not None or key not in known}
    for each in fields(part):
        if each.default is MISSING and each.default_factory is MISSING and each.name not in given:
            raise InvalidOption(f"{path}{each.name} is missing; it is {known[each.name]}")
    return part(**part.derive(check(part, path, given)))


def check(part: type[Part], path: str, given: Mapping[Any, object]) -> dict[str, Any]:
    """Return the values given for options of `part`, each valid; raise InvalidOption otherwise."""
    known, later = rules(part), LATER.get(part.__name__, {})
    cleaned = {}
    for key, value in given.items():
        if key in known:
            cleaned[key] = clean(path + key, known[key], value)
        elif key not in later:
            raise unknown(path, key, known, later)
        elif not (value is None or value is False or value in ({}, later[key])):
            raise InvalidOption(
                f"{path}{key} is {value!r:.80}, and {path}{key} is not in this version yet; "
                "remove it, or leave it empty"
            )
    return cleaned


def unknown(
    path: str, key: object, known: Iterable[str], later: Iterable[str] = ()
) -> InvalidOption:
    nearest = get_close_matches(str(key), [*known, *later], n=1)
    hint = f" (the nearest is {path}{nearest[0]})" if nearest else ""
    return InvalidOption(f"{path}{key} is not an option{hint}; there are: {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class Rule:
    """What an annotation asks of a value."""

    kind: Any
    optional: bool
    range: Range | None
    secret: bool

    @classmethod
    def of(cls, annotation: Any) -> Self:
        marks: list[Any] = []
        if get_origin(annotation) is Annotated:
            annotation, *marks = get_args(annotation)
        arms = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
        (kind,) = (arm for arm in arms if arm is not NoneType)
        ranges = [mark for mark in marks if isinstance(mark, Range)]
        return cls(
            kind=kind,
            optional=NoneType in arms,
            range=ranges[0] if ranges else TEXT if kind is str else None,
            secret=SECRET in marks,
        )

    def allows(self, value: object) -> bool:
        if self.kind is bool:
            return isinstance(value, bool)
        assert self.range is not None, "a number without a range is unbounded"
        if self.kind is str:
            return (
                isinstance(value, str)
                and bool(value.strip())
                and self.range.low <= len(value.encode(errors="replace")) <= self.range.high
            )
        numbers = int if self.kind is int else int | float
        return (
            isinstance(value, numbers)
            and not isinstance(value, bool)
            and self.range.low <= value <= self.range.high
        )

    def __str__(self) -> str:
        if isinstance(self.kind, type) and issubclass(self.kind, Part):
            return f"a table of {', '.join(rules(self.kind))}"
        if self.kind is bool:
            return "true or false"
        assert self.range is not None
        low, high = f"{self.range.low:_}", f"{self.range.high:_}"
        why = f": {self.range.why}" if self.range.why else ""
        if self.kind is str:
            return f"text of {low} to {high} bytes{why}"
        noun = "a whole number" if self.kind is int else "a number of seconds"
        return f"{noun} from {low} to {high}{why}"


def rules(part: type[Part]) -> dict[str, Rule]:
    return {each.name: Rule.of(each.type) for each in fields(part)}


def clean(path: str, rule: Rule, value: object) -> Any:
    """Return `value` in the type the rule names, or raise InvalidOption saying what it asks."""
    if value is None and rule.optional:
        return None
    if isinstance(rule.kind, type) and issubclass(rule.kind, Part):
        return parse(rule.kind, f"{path}.", value)
    match get_origin(rule.kind):
        case None:
            return clean_plain(path, rule, value)
        case origin if origin is tuple:
            return clean_list(path, rule, value)
        case _:
            return clean_table(path, rule, value)


def clean_plain(path: str, rule: Rule, value: object) -> Any:
    if not rule.allows(value):
        got = f"a {type(value).__name__} that is not shown" if rule.secret else f"{value!r:.80}"
        raise InvalidOption(f"{path} is {got}; it is {rule}")
    if isinstance(value, str):
        check_text(path, value, secret=rule.secret)
    return rule.kind(value)


def clean_list(path: str, rule: Rule, value: object) -> tuple[Any, ...]:
    item = Rule.of(get_args(rule.kind)[0])
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InvalidOption(f"{path} is {value!r:.80}; it is a list, each {item}")
    return tuple(clean(f"{path}[{at}]", item, each) for at, each in enumerate(value))


def clean_table(path: str, rule: Rule, value: object) -> dict[str, Any]:
    if get_args(rule.kind)[1] is Any:  # plain data: whoever uses it knows what it may hold
        return clean_plain_table(path, value)
    item = Rule.of(get_args(rule.kind)[1])
    if not isinstance(value, Mapping):
        raise InvalidOption(f"{path} is {value!r:.80}; it is a table of names and their options")
    named = {check_name(f"a name in {path}", name): each for name, each in value.items()}
    return {name: clean(f"{path}.{name}", item, each) for name, each in named.items()}


def clean_plain_table(path: str, value: object) -> dict[str, Any]:
    try:
        return clean_object(path, value)
    except InvalidJob as error:
        raise InvalidOption(str(error)) from None


def check_name(path: str, value: object) -> str:
    try:
        return clean_name(path, value)
    except InvalidJob as error:
        raise InvalidOption(str(error)) from None


def check_text(path: str, value: str, *, secret: bool) -> None:
    try:
        clean_text(path, value)
    except InvalidJob as error:
        hidden = f"{path} holds a NUL character or is not valid Unicode text; it is not shown"
        raise InvalidOption(hidden if secret else str(error)) from None
