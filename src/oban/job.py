"""A job: the value that is enqueued, stored, run and kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, Self

from oban import recorded
from oban.errors import InvalidJob
from oban.fields import (
    MAX_ATTEMPTS,
    Seconds,
    clean_integer,
    clean_moment,
    clean_name,
    clean_object,
    clean_tags,
    seconds,
)
from oban.states import AVAILABLE, JobState
from oban.unique import Unique, UniqueOptions

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    #: What the arguments are, for type checkers: in the table they are always a dict.
    A = TypeVar("A", default=dict[str, Any])
else:
    from typing import TypeVar

    A = TypeVar("A")


@dataclass(slots=True, kw_only=True, repr=False)
class Job(Generic[A]):
    """One unit of work.

    Building one validates it and raises `InvalidJob` (a ValueError) naming field and value; rows
    read from the database come through `restore` and are never validated, so that a row written
    by somebody else cannot break a fetch. Datetimes are aware and in UTC.
    """

    worker: str
    args: A = field(default_factory=dict)  # type: ignore[assignment]
    queue: str = "default"
    state: JobState = JobState.AVAILABLE
    priority: int = 0
    max_attempts: int = 20
    attempt: int = 0
    meta: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    attempted_by: list[str] = field(default_factory=list)
    id: int | None = None
    inserted_at: datetime | None = None
    scheduled_at: datetime | None = None
    attempted_at: datetime | None = None
    completed_at: datetime | None = None
    cancelled_at: datetime | None = None
    discarded_at: datetime | None = None
    #: Never stored: room for whoever handles the value.
    extra: dict[str, Any] = field(default_factory=dict, compare=False)
    #: What the process that runs it has opened for its jobs, by name. Never stored.
    resources: Mapping[str, Any] = field(default_factory=dict, compare=False)
    #: What makes this job the same as another, for its insertion. Kept as a `Unique`.
    unique: Unique | UniqueOptions | bool | None = field(default=None, compare=False)
    #: Whether this is the job that was there already, found instead of inserting its like.
    conflicted: bool = field(default=False, init=False, compare=False)
    #: Whether its arguments are to be encrypted when it is inserted. Never stored.
    private: bool = field(default=False, repr=False, compare=False)
    stop_requested: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, clean, default in CLEANING:
            value = getattr(self, name)
            if value is not default and (value or type(value) is not EMPTY.get(name)):
                setattr(self, name, clean(name, value))
        check_attempts(self.attempt, self.max_attempts)
        if self.state is AVAILABLE and is_future(self.scheduled_at):
            self.state = JobState.SCHEDULED

    def __repr__(self) -> str:
        """Short, and without arguments: they may hold secrets, and this ends up in logs."""
        return (
            f"Job(id={self.id}, worker={self.worker!r}, queue={self.queue!r}, "
            f"state={str(self.state)!r}, attempt={self.attempt}/{self.max_attempts})"
        )

    @classmethod
    def restore(
        cls,
        *,
        id: int | None,  # noqa: A002  # the columns' names
        state: JobState,
        queue: str,
        worker: str,
        attempt: int,
        max_attempts: int,
        priority: int,
        args: Any,
        meta: Any,
        errors: Any,
        tags: list[str],
        attempted_by: list[str],
        inserted_at: datetime | None,
        scheduled_at: datetime | None,
        attempted_at: datetime | None,
        completed_at: datetime | None,
        cancelled_at: datetime | None,
        discarded_at: datetime | None,
    ) -> Self:
        """Build a job from the columns of a row, as they are, whatever they hold.

        One by one: this is done for every job that is claimed, and a loop takes thrice the time.
        """
        job = object.__new__(cls)
        job.id = id
        job.state = state
        job.queue = queue
        job.worker = worker
        job.attempt = attempt
        job.max_attempts = max_attempts
        job.priority = priority
        job.args = args
        job.meta = meta
        job.errors = errors
        job.tags = tags
        job.attempted_by = attempted_by
        job.inserted_at = inserted_at
        job.scheduled_at = scheduled_at
        job.attempted_at = attempted_at
        job.completed_at = completed_at
        job.cancelled_at = cancelled_at
        job.discarded_at = discarded_at
        job.extra = {}
        job.resources = {}
        job.unique = None
        job.conflicted = False
        job.private = False
        job.stop_requested = False
        return job

    def cancelled(self) -> bool:
        """Whether this running job was asked to stop. Look at safe points and return early."""
        return self.stop_requested

    def update(self, changes: Mapping[str, Any]) -> Self:
        """Validate `changes`, apply them to this value and return it. Writes nothing.

        All or nothing: a wrong value leaves the job as it was.
        """
        cleaned = clean_changes(changes)
        check_attempts(self.attempt, cleaned.get("max_attempts", self.max_attempts))
        for name, value in cleaned.items():
            setattr(self, name, value)
        if "scheduled_at" in cleaned and self.state in (JobState.AVAILABLE, JobState.SCHEDULED):
            due = is_future(self.scheduled_at)
            self.state = JobState.SCHEDULED if due else JobState.AVAILABLE
        return self

    def recorded(self) -> Any:
        """Return what the worker recorded with `Record`, or None when it recorded nothing.

        Raises ValueError for a record that cannot be read.
        """
        meta: object = self.meta  # somebody else's row may hold anything
        if not isinstance(meta, dict) or not meta.get("recorded"):
            return None
        return recorded.decode(meta.get("return"))


#: Fields that `update` may change, and `schedule_in`, which stands for `scheduled_at`.
UPDATABLE: Final = (
    "args",
    "max_attempts",
    "meta",
    "priority",
    "queue",
    "scheduled_at",
    "tags",
    "worker",
)


def clean_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Validate what somebody wants to change in a job; `schedule_in` becomes `scheduled_at`."""
    if not isinstance(changes, Mapping):
        raise InvalidJob(f"changes are a dict of fields and values, got {changes!r:.80}")
    given = dict(changes)
    if "schedule_in" in given:
        given["scheduled_at"] = due_at(given.get("scheduled_at"), given.pop("schedule_in"))
    unknown = sorted(str(name) for name in given if name not in UPDATABLE)
    if unknown:
        raise InvalidJob(
            f"cannot update {', '.join(unknown)}; these fields can be updated: "
            f"{', '.join(UPDATABLE)} and schedule_in"
        )
    if given.get("scheduled_at", ...) is None:
        raise InvalidJob("scheduled_at is None; give an aware datetime")
    return {name: CLEANERS[name](name, value) for name, value in given.items()}


def check_again(job: Job) -> None:
    """Raise InvalidJob for a field that was set, past all checks, to what it cannot be."""
    clean_changes({name: value for name in UPDATABLE if (value := getattr(job, name)) is not None})


def due_at(scheduled_at: datetime | None, schedule_in: Seconds | None) -> datetime | None:
    """The moment that either option means. Raises InvalidJob when both are given."""
    if schedule_in is None:
        return scheduled_at
    if scheduled_at is not None:
        raise InvalidJob("scheduled_at and schedule_in are both given; give one of them")
    return datetime.now(UTC) + timedelta(seconds=seconds("schedule_in", schedule_in))


def check_attempts(attempt: int, max_attempts: int) -> None:
    if not 0 <= attempt <= max_attempts:
        raise InvalidJob(
            f"attempt is {attempt}; it lies between 0 and max_attempts, which is {max_attempts}"
        )


def is_future(moment: datetime | None) -> bool:
    return moment is not None and moment > datetime.now(UTC)


def clean_state(name: str, value: object) -> JobState:
    try:
        return JobState(value)  # type: ignore[arg-type]  # the enum itself refuses what is not one
    except ValueError:
        raise InvalidJob(f"{name} is {value!r}; one of {', '.join(JobState)}") from None


def clean_unique(_: str, value: object) -> Unique | None:
    return Unique.parse(value)


CLEANERS: Final[Mapping[str, Callable[[str, object], Any]]] = {
    "state": clean_state,
    "queue": clean_name,
    "worker": clean_name,
    "args": clean_object,
    "meta": clean_object,
    "tags": clean_tags,
    "priority": clean_integer(0, 9),
    "max_attempts": clean_integer(1, MAX_ATTEMPTS),
    "attempt": clean_integer(0, MAX_ATTEMPTS),
    "scheduled_at": clean_moment,
    "inserted_at": clean_moment,
    "attempted_at": clean_moment,
    "completed_at": clean_moment,
    "cancelled_at": clean_moment,
    "discarded_at": clean_moment,
    "unique": clean_unique,
}

#: Each field's cleaner and the default that needs none; and what is clean when it is empty.
CLEANING: Final = tuple(
    (each.name, CLEANERS[each.name], each.default) for each in fields(Job) if each.name in CLEANERS
)
EMPTY: Final[Mapping[str, type]] = {"args": dict, "meta": dict, "tags": list}

NEVER_STORED: Final = ("extra", "resources", "unique", "conflicted", "private", "stop_requested")
#: The columns of a job, in the order of the class.
JOB_FIELDS: Final = tuple(each.name for each in fields(Job) if each.name not in NEVER_STORED)
