"""The scheduler without a database: years pass in a second, and leaders come and go."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import zip_longest

import pytest

from oban.engines.nodes import Lease, Sighting
from oban.engines.runs import ProducerIdentity
from oban.periodic import Periodic
from oban.running.boot import Boot
from oban.running.scheduler import Calendar

ZONES = (
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Havana",
    "America/Los_Angeles",
    "America/New_York",
    "America/Nuuk",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Asia/Tokyo",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Dublin",
    "Pacific/Apia",
    "UTC",
)
BEGIN = datetime(2011, 6, 1, tzinfo=UTC)
YEARS = timedelta(days=3653)
DAY = timedelta(days=1)
EXPRESSIONS = ("30 2 * * SUN", "0 0 * * FRI,SUN", "59 23 31 12 *", "*/30 0-3 25-31 3,10 SUN")


@dataclass
class Store:
    """What the database keeps: an entry moves from where it was read, or not at all."""

    slots: dict[str, datetime] = field(default_factory=dict)
    ran: Counter[tuple[str, datetime]] = field(default_factory=Counter)

    def lead(self, calendar: Calendar, entries: list[Periodic], now: datetime) -> None:
        """What a leader does in one look. What it knows may be old."""
        for name, signature in calendar.unknown(entries).items():
            calendar.move((name, signature), self.slots.setdefault(name, now.replace(second=0)))
        for due in calendar.due(entries, now):
            name, key = due.entry.name, calendar.key(due.entry)
            if self.slots[name] != due.last:
                calendar.move(key, None)
                continue
            self.slots[name] = due.slots[-1]
            calendar.move(key, due.slots[-1])
            self.ran.update((name, slot) for slot in due.slots)


@pytest.mark.parametrize("zone", ZONES)
def test_in_ten_years_with_changing_leaders_each_slot_is_run_once(zone: str) -> None:
    chance = random.Random(zone)
    entries = [Periodic("w", expr, timezone=zone) for expr in EXPRESSIONS]
    store, leaders = Store(), [Calendar() for _ in range(3)]
    now, ends = BEGIN, BEGIN + YEARS
    slots = {each.name: list(each.cron("UTC").between(BEGIN, ends + DAY)) for each in entries}
    store.lead(leaders[0], entries, now)
    for slot in sorted(set().union(*slots.values())):
        # Looks come when something is due, late by less than the window; at times several lead.
        if slot <= now:
            continue
        if now >= ends:
            break
        now = slot + timedelta(seconds=chance.uniform(0, 60))
        for leader in chance.sample(leaders, chance.choice([1, 1, 1, 1, 2, 3])):
            store.lead(leader, entries, now)
            store.lead(leader, entries, now)  # what another has moved is found out by the first
            if chance.random() < 0.01:
                leader.forget()  # a process that has just become the leader
    for entry in entries:
        expected = [slot for slot in slots[entry.name] if slot <= store.slots[entry.name]]
        ran = [slot for name, slot in store.ran if name == entry.name]
        assert ran == expected
    assert set(store.ran.values()) == {1}


@pytest.mark.parametrize("catch_up", ["latest", "all", "none"])
def test_a_rolling_replacement_misses_no_minute(catch_up: str) -> None:
    entries = [Periodic("w", "* * * * *", catch_up=catch_up)]  # type: ignore[arg-type]
    store, now = Store(), BEGIN + timedelta(seconds=30)
    chance = random.Random(catch_up)
    store.lead(Calendar(), entries, now)
    for _ in range(500):
        calendar = Calendar()  # each look by a process that has just come to lead
        now += timedelta(seconds=chance.uniform(1, 55))
        store.lead(calendar, entries, now)
    slots = sorted(slot for _, slot in store.ran)
    assert slots == [BEGIN + timedelta(minutes=1 + n) for n in range(len(slots))]
    assert store.ran.total() == len(slots)
    assert now - slots[-1] < timedelta(minutes=1)


def elder(beat_at: float | None, name: str = "Oban", uuid: str = "a") -> Sighting:
    return Sighting(ProducerIdentity(uuid, name, "node", "default"), beat_at, 10)


def observed(*beats: list[Sighting], leases: Sequence[Lease | None] = ()) -> bool | None:
    boot = Boot("Oban", "me")
    for now, (beat, lease) in enumerate(zip_longest(beats, leases)):
        boot.observe(beat or [], lease, 3.0 * now)
    return boot.first


def led(expires_in: float, uuid: str = "leader") -> Lease:
    return Lease(uuid, "node", 1, expires_in)


def test_a_process_that_finds_nobody_is_the_first() -> None:
    assert observed([]) is True
    assert observed([elder(1.0, name="Other")]) is True


def test_a_sign_of_life_of_one_that_was_there_before_says_that_it_is_not() -> None:
    assert observed([elder(1.0)]) is None
    assert observed([elder(1.0)], [elder(1.0)], [elder(2.0)]) is False
    assert observed([elder(1.0)], [elder(2.0)], []) is False
    assert observed([elder(None)], [elder(3.0)]) is False


def test_those_that_are_gone_without_one_were_dead() -> None:
    assert observed([elder(1.0), elder(1.0, uuid="b")], [elder(1.0)]) is None
    assert observed([elder(1.0), elder(1.0, uuid="b")], [elder(1.0)], []) is True


def test_a_leader_without_queues_lives_while_its_lease_is_renewed() -> None:
    assert observed([], leases=[led(4), led(1)]) is None
    assert observed([], leases=[led(4), led(4)]) is False
    assert observed([], [], [], leases=[led(4), led(1), None]) is True
    assert observed([], [], leases=[led(4), led(6, "me")]) is True
    assert observed([], leases=[led(6, "me")]) is True


def test_one_that_came_later_says_nothing() -> None:
    assert (
        observed([elder(1.0)], [elder(1.0), elder(2.0, uuid="b")], [elder(3.0, uuid="b")]) is True
    )
