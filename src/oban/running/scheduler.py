"""The scheduler: enqueues the jobs of the calendar when their slots are due."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from oban import telemetry
from oban.engines.base import Engine, Session
from oban.engines.cron import DueSlots
from oban.errors import DataRefused, InvalidJob, UniqueKeyBusy
from oban.job import Job
from oban.options import SchedulerOptions
from oban.periodic import Periodic
from oban.running.leader import Leader
from oban.running.loop import Loop
from oban.vault import KEYLESS, Vault
from oban.worker import registered, worker_named

#: Seconds between two looks at the calendar while nothing is due: entries may come and go.
LOOK: Final = 1.0
#: What one entry's job may be refused with, and until when the entry is then left alone.
REFUSALS: Final = (InvalidJob, DataRefused, UniqueKeyBusy)
REFUSED_REST: Final = timedelta(seconds=60)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
NEVER: Final = datetime.max.replace(tzinfo=UTC)

#: An entry by its name and its signature.
Key = tuple[str, str]


class Clock:
    """The database's time, as the heartbeats brought it, carried on by our monotonic clock."""

    def __init__(self) -> None:
        self.offset: float | None = None

    def set(self, at: float, monotonic: float) -> None:
        self.offset = at - monotonic

    def now(self) -> datetime:
        since_1970 = time.time() if self.offset is None else time.monotonic() + self.offset
        return datetime.fromtimestamp(since_1970, UTC)


@dataclass(frozen=True, slots=True)
class Due:
    """The slots of an entry that are due, and up to which it had been seen to."""

    entry: Periodic
    last: datetime
    slots: Sequence[datetime]

    def with_jobs(self, timezone: str, vault: Vault) -> DueSlots:
        """Raises what a worker's options raise that do not go with the entry's."""
        exclusive = self.entry.overlap == "skip"
        # Slots that were missed may not run beside each other either: the last stands for all.
        slots = self.slots[-1:] if exclusive else self.slots
        jobs = vault.seal([build(self.entry, slot, timezone) for slot in slots])
        return DueSlots(self.entry.name, self.last, self.slots[-1], jobs, exclusive=exclusive)


@dataclass(slots=True)
class Calendar:
    """Which slots are due, and when the next one is. Pure: what was seen to is given to it."""

    timezone: str = "UTC"
    #: Up to which slot each entry was seen to, by its name and signature.
    seen: dict[Key, datetime] = field(default_factory=dict)
    #: Before then there is nothing to find for the entry.
    coming: dict[Key, datetime] = field(default_factory=dict)

    def key(self, entry: Periodic) -> Key:
        return entry.name, entry.signature(self.timezone)

    def unknown(self, entries: Sequence[Periodic]) -> dict[str, str]:
        """The names and signatures of entries nothing is known of."""
        return dict(self.key(each) for each in entries if self.key(each) not in self.seen)

    def move(self, key: Key, slot: datetime | None) -> None:
        """The entry is seen to up to `slot`; None says that somebody else has moved it."""
        self.coming.pop(key, None)
        if slot is None:
            del self.seen[key]
        else:
            self.seen[key] = slot

    def forget(self) -> None:
        self.seen.clear()
        self.coming.clear()

    def due(self, entries: Sequence[Periodic], now: datetime) -> list[Due]:
        found = []
        for entry in entries:
            key = self.key(entry)
            last = self.seen.get(key)
            # Unknown still: another leader has opened it at the same time, and it is read again.
            if last is None or self.coming.get(key, now) > now:
                continue
            cron = entry.cron(self.timezone)
            if slots := entry.due(cron, last, now):
                found.append(Due(entry, last, slots))
            else:
                self.coming[key] = cron.next(now) or NEVER
        return found

    def next_slot(self, entries: Sequence[Periodic]) -> datetime:
        """When `due` finds something again, as far as it has looked."""
        return min((self.coming.get(self.key(each), NEVER) for each in entries), default=NEVER)


class Scheduler(Loop):
    """Runs on every node that may lead, and acts on the one that does.

    Two leaders at once do no harm: an entry moves from one slot to the next for one of them.
    """

    name = "oban.scheduler"

    def __init__(
        self,
        engine: Engine,
        session: Session,
        options: SchedulerOptions,
        leader: Leader,
        *,
        name: str,
        clock: Clock,
        booted: Callable[[], bool],
        vault: Vault = KEYLESS,
    ) -> None:
        super().__init__()
        self.engine = engine
        self.session = session
        self.options = options
        self.configured = options.periodic
        self.leader = leader
        self.instance = name
        self.clock = clock
        #: Whether this process found no other of its name alive when it started.
        self.booted = booted
        self.vault = vault
        self.boot_done = False
        self.started_at: datetime | None = None
        self.calendar = Calendar(options.timezone)
        #: Names of entries that several workers have, of which one counts.
        self.twins: set[str] = set()

    async def tick(self) -> float:
        if self.started_at is None:
            self.started_at = self.clock.now()
        entries = self.entries()
        if self.booted() and not self.boot_done:
            self.boot_done = await self.boot([entry for entry in entries if entry.is_reboot])
        timed = [entry for entry in entries if not entry.is_reboot]
        if not self.leader.is_leader:
            self.calendar.forget()  # others move them forward from here on
            return LOOK
        if unknown := self.calendar.unknown(timed):
            await self.open(unknown, None)
        now = self.clock.now()
        if found := self.calendar.due(timed, now):
            await self.evaluate(found)
            return 0.0
        return min(LOOK, (self.calendar.next_slot(timed) - now) / timedelta(seconds=1))

    def entries(self) -> list[Periodic]:
        """The entries of this Oban; two workers that call one alike are told of, once."""
        found, twins = entries_of(self.instance, self.configured)
        for twin in twins - self.twins:
            telemetry.execute("oban.scheduler.twins", {"entry": twin})
        self.twins |= twins
        return found

    async def boot(self, entries: Sequence[Periodic]) -> bool:
        """Run what runs when the first node of this name starts; once if several think they are.

        Returns whether that is done, false if another has just opened the same entries.
        """
        if not entries:
            return True
        assert self.started_at is not None
        await self.open(dict(self.calendar.key(each) for each in entries), EPOCH)
        if self.calendar.unknown(entries):
            return False
        now = self.clock.now()
        seen = [(entry, self.calendar.seen[self.calendar.key(entry)]) for entry in entries]
        if due := [Due(entry, last, [now]) for entry, last in seen if last < self.started_at]:
            await self.evaluate(due)
        return True

    async def open(self, unknown: Mapping[str, str], begin: datetime | None) -> None:
        seen = await self.session.execute(self.engine.open_slots(self.instance, unknown, begin))
        for name, slot in seen.items():
            self.calendar.move((name, unknown[name]), slot)

    async def evaluate(self, due: Sequence[Due]) -> None:
        """Enqueue what is due; where that is refused, entry by entry, so that one fails alone."""
        try:
            await self.enqueue(due)
        except REFUSALS as error:
            if len(due) == 1:
                self.put_off(due[0], error)
                return
            for each in due:
                await self.evaluate([each])

    async def enqueue(self, due: Sequence[Due]) -> None:
        with telemetry.span("oban.scheduler.evaluate") as span:
            slots = [each.with_jobs(self.options.timezone, self.vault) for each in due]
            done = await self.session.execute(self.engine.schedule(self.instance, slots))
            span.add(
                {
                    "enqueued_count": len(done.jobs),
                    "overlapping": sorted(done.overlapping),
                    "paused": sorted(done.paused),
                }
            )
        for each in due:
            key = self.calendar.key(each.entry)
            self.calendar.move(key, each.slots[-1] if each.entry.name in done.moved else None)

    def put_off(self, due: Due, error: Exception) -> None:
        """Its slot stays due, to be caught up with once the cause is mended."""
        self.calendar.coming[self.calendar.key(due.entry)] = self.clock.now() + REFUSED_REST
        metadata = {"entry": due.entry.name, **telemetry.describe_error(error)}
        telemetry.execute("oban.scheduler.refused", metadata)


def entries_of(name: str, configured: Iterable[Periodic]) -> tuple[list[Periodic], set[str]]:
    """The entries of this Oban: of its workers, and of its configuration, which wins by name.

    And the names that several of its workers use, where the last one wins.
    """
    own = [
        entry
        for definition in list(registered().values())
        if definition.oban == name
        for entry in definition.cron
    ]
    entries = {entry.name: entry for entry in (*own, *configured)}
    twins = {twin for twin, count in Counter(entry.name for entry in own).items() if count > 1}
    return list(entries.values()), twins


def build(entry: Periodic, slot: datetime, timezone: str) -> Job:
    """The job of one slot: the worker's options, the entry's over them, and the slot's time."""
    definition = worker_named(entry.worker)
    defaults: Mapping[str, Any] = {} if definition is None else definition.options
    meta = {**defaults.get("meta", {}), **entry.fields.get("meta", {}), **entry.meta(timezone)}
    fields = {**entry.fields, "meta": meta, "scheduled_at": slot}
    if definition is not None:
        return definition.build(dict(entry.args), fields)
    return Job(worker=entry.worker, args=dict(entry.args), **fields)
