"""The calendar: slots are the times at which a cron entry is due."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from oban.engines.operation import Operation
from oban.job import Job


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


class CronVerbs(Protocol):
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
