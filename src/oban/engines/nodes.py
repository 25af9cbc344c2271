"""A process among others: what it tells with a heartbeat, and learns with the same statement."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from oban.engines.commands import Intent
from oban.engines.operation import Operation
from oban.engines.runs import ProducerIdentity
from oban.outcome import AttemptKey


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
class Sighting:
    """Another producer of ours: when it last gave a sign of life, None where there is no trace."""

    identity: ProducerIdentity
    #: By the database's clock, to be compared with another sighting and with nothing else.
    beat_at: float | None
    max_age: float


@dataclass(frozen=True, slots=True)
class Lease:
    """Who leads, and for how many seconds from now."""

    uuid: str
    node: str
    #: Counts the leaders that came to it by an election.
    epoch: int
    expires_in: float


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


class NodeVerbs(Protocol):
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

    def known_producers(self) -> Operation[list[KnownProducer]]:
        """The producers recorded as ours, of all nodes; one that died is among them."""
        ...

    def forget_silent(self) -> Operation[int]:
        """Forget producers that were silent for a day and that no job names. How many."""
        ...
