"""The weeks in which clocks change, on the real engine, by an injected clock and two leaders."""

import random
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import cast
from zoneinfo import ZoneInfo

import psycopg
import pytest

from oban.engines.postgres import PostgresEngine
from oban.options import CronEntryOptions, SchedulerOptions
from oban.running.leader import Leader
from oban.running.scheduler import Clock, Scheduler

MINUTE = timedelta(minutes=1)
WEEK = timedelta(days=7)
#: In these weeks clocks are set forward and back: by an hour, by half an hour, at midnight.
WEEKS = {
    ("Europe/Berlin",): (datetime(2026, 3, 26, tzinfo=UTC), datetime(2026, 10, 22, tzinfo=UTC)),
    ("America/New_York", "America/Havana"): (
        datetime(2026, 3, 5, tzinfo=UTC),
        datetime(2026, 10, 29, tzinfo=UTC),
    ),
    ("Australia/Lord_Howe",): (
        datetime(2026, 4, 2, tzinfo=UTC),
        datetime(2026, 10, 1, tzinfo=UTC),
    ),
}
#: They are set on the fourth day, at any hour of UTC: looks come closer then.
CHANGING = (timedelta(days=2, hours=12), timedelta(days=4, hours=12))
DAILY = ("30 0 * * *", "30 1 * * *", "0 2 * * *", "15 2 * * *", "30 2 * * *", "0 3 * * *")
QUARTERS = "*/15 * * * *"


class SetClock(Clock):
    """A clock that shows what it was set to."""

    def __init__(self, at: datetime) -> None:
        super().__init__()
        self.at = at

    def now(self) -> datetime:
        return self.at


class Chosen(Leader):
    """Leads when it is told to."""

    chosen = False

    @property
    def is_leader(self) -> bool:
        return self.chosen


async def pass_through(
    engine: PostgresEngine, options: SchedulerOptions, begin: datetime, seed: int
) -> None:
    """Let a week pass in uneven steps on two nodes; at times both lead, and at times none.

    A step is at most 95 minutes while clocks change, and longer on the days around.
    """
    dice = random.Random(seed)  # a test that can be repeated
    clock = SetClock(begin)
    leaders = [Chosen(f"node-{number}", wanted=True) for number in range(2)]
    nodes = [
        Scheduler(engine, engine, options, leader, name="Oban", clock=clock, booted=lambda: False)
        for leader in leaders
    ]
    entries = {each.name: each.signature("UTC") for each in options.periodic}
    await engine.execute(engine.open_slots("Oban", entries, begin))
    while clock.at < begin + WEEK:
        changing = CHANGING[0] <= clock.at - begin < CHANGING[1]
        minutes = dice.choice([1, 7, 30, 95] if changing else [7, 30, 95, 380])
        clock.at = min(clock.at + timedelta(minutes=minutes), begin + WEEK)
        for leader in leaders:
            leader.chosen = dice.random() < 0.6
        if clock.at == begin + WEEK:
            leaders[0].chosen = True
        for node in nodes:
            while await node.tick() == 0.0:
                pass


def moment(day: date, wall: time, zone: ZoneInfo) -> datetime:
    """When clocks show this: the first time if they do so twice, and if never, the gap's end."""
    at = datetime.combine(day, wall, zone).astimezone(UTC)
    if at.astimezone(zone).time() == wall:
        return at
    offset = at.astimezone(zone).utcoffset()
    while (at - MINUTE).astimezone(zone).utcoffset() == offset:
        at -= MINUTE
    return at


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("zones", "begin"), [(zones, begin) for zones, both in WEEKS.items() for begin in both]
)
async def test_in_a_week_with_a_change_of_clocks_each_slot_has_one_job(
    engine: PostgresEngine, oban_dsn: str, zones: tuple[str, ...], begin: datetime, seed: int
) -> None:
    entries = [
        CronEntryOptions(
            worker="app.Nobody", expr=expr, timezone=zone, name=f"{zone} {expr}", catch_up="all"
        )
        for zone in zones
        for expr in (*DAILY, QUARTERS)
    ]
    options = SchedulerOptions(entries=tuple(entries))
    await pass_through(engine, options, begin, seed)
    with psycopg.connect(oban_dsn) as connection:
        rows = connection.execute(
            "select meta ->> 'cron_name', scheduled_at at time zone 'UTC' from oban_jobs"
        ).fetchall()
    jobs = Counter(cast("list[tuple[str, datetime]]", rows))
    assert set(jobs.values()) == {1}
    for zone in zones:
        local = ZoneInfo(zone)
        days = [begin.astimezone(local).date() + timedelta(days=number) for number in range(1, 7)]
        for expr in DAILY:
            slots = [slot for name, slot in jobs if name == f"{zone} {expr}"]
            on_those_days = sorted(slot for slot in slots if slot.astimezone(local).date() in days)
            minute, hour = map(int, expr.split()[:2])
            expected = [moment(day, time(hour, minute), local) for day in days]
            assert on_those_days == expected, (zone, expr)
        # Each quarter that there was, those that a clock shows twice too.
        quarters = sorted(slot for name, slot in jobs if name == f"{zone} {QUARTERS}")
        steps = {later - earlier for earlier, later in pairwise(quarters)}
        assert steps == {timedelta(minutes=15)}
