"""What the tables tell of one job and its surroundings: enough to say why it does not run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Protocol

from oban.engines.commands import Intent
from oban.engines.nodes import KnownProducer
from oban.engines.operation import Operation
from oban.job import Job

#: Jobs that are counted in front of one, at most.
MOST_AHEAD: Final = 10_000


@dataclass(frozen=True, slots=True)
class Runner:
    """A producer as it was last seen, of one of our nodes or of another package's."""

    known: KnownProducer
    is_ours: bool
    #: Of the jobs that name it as running them, the one claimed first, and seconds since then.
    longest_id: int | None = None
    longest_for: float | None = None

    @property
    def alive(self) -> bool:
        return self.known.alive


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """The job that a unique key is written to; None of its state where it is gone."""

    job_id: int
    state: str | None


@dataclass(frozen=True, slots=True)
class Room:
    """A limit that the job has to pass, and how much of it is used."""

    scope: Literal["queue", "partition", "shared"]
    name: str
    #: Jobs at once, and how many there are.
    slots: int | None = None
    running: int = 0
    #: Weight that starts within `period` seconds, and how much has.
    allowed: int | None = None
    period: float | None = None
    started: int = 0
    #: Seconds until some of what has started counts no more.
    reopens_in: float | None = None
    #: Seconds for which nothing starts, since a job said so.
    resting: float = 0.0
    #: Whether any node has ever said what it allows.
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class JobFacts:
    """All is by the database's clock, read within one transaction."""

    job: Job
    #: When it was read.
    at: datetime
    #: Since when the code of a cancelled job is asked to stop.
    stopping_at: datetime | None = None
    #: What it takes of a rate.
    weight: int = 1
    #: Whether it has yet to be put in the partition that it belongs in.
    is_unplaced: bool = False
    #: Who has the unique key that it has, or had before it lost it.
    holder: KeyHolder | None = None
    #: Who runs its queue, or did of late.
    runners: Sequence[Runner] = ()
    #: The producer that has the attempt, or had it last; None where nothing is known of it.
    runner: Runner | None = None
    #: The queues that living nodes of ours run.
    living_queues: Sequence[str] = ()
    #: What was commanded of queues, by the name of the Oban.
    intents: Mapping[str, Sequence[Intent]] = field(default_factory=dict)
    #: Limits to pass, for a job that is available.
    rooms: Sequence[Room] = ()
    #: Available jobs that stand before it, up to one more than MOST_AHEAD.
    ahead_count: int = 0
    #: Seconds that the oldest available job of its queue has waited.
    oldest_wait: float | None = None


class ExplainVerbs(Protocol):
    def explain(self, identity: int) -> Operation[JobFacts | None]:
        """What tells why the job does not run, or how it ended; None when there is none.

        A few short reads, however many jobs and nodes there are.
        """
        ...
