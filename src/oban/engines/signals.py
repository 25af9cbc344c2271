"""What is heard from the other nodes. Signals are hints: nothing is lost when they are."""

from dataclasses import dataclass, field
from typing import Literal


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
class UniqueLost:
    """A job came to count as unique again, and its like had taken its key: it goes on without."""

    job_id: int


@dataclass(frozen=True, slots=True)
class StackAsked:
    """Somebody wants to see where the code of this job is."""

    job_id: int


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
