"""What runs is counted by the leader, and each node tells how long it took."""

import asyncio
import gc
import math
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from tests.running.support import Running, eventually, named, reached
from tests.unit.test_meter import claimed, counts

from oban import Job, Oban, Snooze, Worker, worker
from oban.engines.metrics import Counted, Outlook
from oban.engines.operation import Operation
from oban.errors import DatabaseUnavailable, DataRefused, OutcomeUnknown
from oban.metrics import Series
from oban.options import MetricsOptions
from oban.running.counter import BREATH, MOST_HELD, Counter
from oban.running.leader import Leader
from oban.running.meter import Meter
from oban.running.reporter import Reporter

QUICK = {"interval": 0.1}


@worker(max_attempts=2)
class Mixed(Worker):
    """Ends in every way there is."""

    async def process(self, job: Job) -> Snooze | None:
        await asyncio.sleep(0.005)
        match job.args["n"] % 5:
            case 0:
                raise RuntimeError("fails")
            case 1 if "snoozed" not in job.meta:
                return Snooze(0)
        return None

    def backoff(self, job: Job) -> float:
        return 0


def total(found: list[Series]) -> dict[str, int]:
    """Jobs by the state they ended in."""
    sums: dict[str, int] = {}
    for point in (point for each in found for point in each.points):
        for state, number in point.counts.items():
            sums[state] = sums.get(state, 0) + number
    return sums


def attempts(found: list[Series]) -> dict[str, int]:
    return {
        each.group: sum(point.exec.count for point in each.points if point.exec) for each in found
    }


async def test_what_has_run_is_kept_by_what_became_of_it(client: Oban, running: Running) -> None:
    async with running(metrics=QUICK, node="here") as oban:
        jobs = await client.enqueue_many(Mixed.new({"n": n}) for n in range(50))
        for job in jobs:
            await reached(oban, job, "completed", "discarded")
        await eventually(lambda: has(client, {"completed": 40, "discarded": 10}))
    # What was not told yet is told at the stop.
    found = await client.metrics("state")
    assert attempts(found) == {"completed": 40, "discarded": 10, "retryable": 10, "scheduled": 10}
    completed = found[0]
    (point, *_) = [point for point in completed.points if point.exec]
    assert point.exec is not None
    assert point.wait is not None
    assert 0.004 < point.exec.p50 < 0.2
    assert point.exec.p50 <= point.exec.p95 <= point.exec.p99
    for by, group in (
        ("worker", Mixed.new({"n": 1}).worker),
        ("node", "here"),
        ("queue", "default"),
    ):
        (only,) = await client.metrics(by)
        assert only.group == group
        assert total([only]) == {"completed": 40, "discarded": 10}
    assert await client.metrics("state", queue="other") == []


async def has(client: Oban, wanted: dict[str, int]) -> bool:
    found = total(await client.metrics("state"))
    assert all(found.get(state, 0) <= number for state, number in wanted.items())
    return found == wanted


@pytest.mark.parametrize("off", [False, {"enabled": False}])
async def test_nothing_is_kept_where_it_is_turned_off(
    client: Oban, running: Running, oban_dsn: str, off: Any
) -> None:
    async with running(metrics=off) as oban:
        await reached(oban, await client.enqueue(Mixed.new({"n": 2})), "completed")
        await asyncio.sleep(0.2)
    with psycopg.connect(oban_dsn) as connection:
        row = connection.execute(
            "select (select count(*) from oban_metrics), (select count(*) from oban_metrics_mark)"
        ).fetchone()
    assert row == (0, 0)


async def test_jobs_that_are_pruned_at_once_were_counted(client: Oban, running: Running) -> None:
    async with running(metrics=QUICK, pruner={"max_age": 0, "interval": 0.1}):
        await client.enqueue_many(Mixed.new({"n": 2}) for _ in range(20))

        async def gone() -> bool:
            return not await client.stats("state") and total(await client.metrics()) != {}

        await eventually(gone)
        assert total(await client.metrics()) == {"completed": 20}


class Teller:
    """A session of which a test says what becomes of each operation."""

    def __init__(self, *fates: Exception | None) -> None:
        self.fates = list(fates)
        self.done = 0

    async def execute(self, operation: Operation[Any]) -> Any:
        fate = self.fates.pop(0) if self.fates else None
        if fate is not None:
            raise fate
        self.done += 1
        return None

    async def close(self) -> None: ...


class Verbs:
    """The two verbs that are sent here, as values."""

    def add_times(self, node: str, times: Any) -> Any:
        return times

    def tend_metrics(self) -> Any:
        return None


def reporter(session: Teller, meter: Meter) -> Reporter:
    return Reporter(Verbs(), session, MetricsOptions(), "node", meter)  # type: ignore[arg-type]


async def test_what_could_not_be_told_is_told_with_the_next(events: list[Any]) -> None:
    meter = Meter()
    meter.note(claimed(), "completed", 5)
    telling = reporter(session := Teller(DatabaseUnavailable("away"), None), meter)
    with pytest.raises(DatabaseUnavailable):
        await telling.tick()
    meter.note(claimed(), "completed", 5)
    await telling.tick()
    assert session.done == 1
    assert meter.take() == []
    assert named(events, "oban.reporter.dropped") == []


@pytest.mark.parametrize("error", [OutcomeUnknown("cut"), DataRefused("no")])
async def test_what_may_have_been_told_is_not_told_twice(
    events: list[Any], error: Exception
) -> None:
    meter = Meter()
    for _ in range(3):
        meter.note(claimed(), "completed", 5)
    telling = reporter(Teller(error), meter)
    await telling.tick()
    assert meter.take() == []
    (dropped,) = named(events, "oban.reporter.dropped")
    assert dropped["attempts"] == 3


async def test_a_telling_that_is_cut_short_loses_no_more_than_was_sent() -> None:
    meter = Meter()
    for n in range(450):
        meter.note(claimed(f"w{n}"), "completed", 5)
    telling = reporter(Teller(None, asyncio.CancelledError()), meter)  # type: ignore[arg-type]
    with pytest.raises(asyncio.CancelledError):
        await telling.tick()
    assert len(counts(meter.take())) == 50


class Table(Teller):
    """Jobs that end evenly, so many in a second, and who writes meanwhile."""

    def __init__(self, per_second: float) -> None:
        super().__init__()
        self.per_second = per_second
        self.at, self.counted_to = 100_000.0, 100_000.0
        self.writers: frozenset[str] = frozenset()
        self.steps: list[float] = []
        self.is_quiet = False

    async def execute(self, operation: Any) -> Any:
        if operation is None:
            return False
        until: Callable[[Outlook], float] = operation
        wanted = until(Outlook(self.at, self.counted_to, self.writers))
        step = max(0.0, wanted - self.counted_to)
        self.counted_to += step
        self.steps.append(step)
        return Counted(round(step * self.per_second), self.counted_to)


class Counting(Verbs):
    def count(self, until: Any) -> Any:
        return until


def counter(table: Table, interval: float = 5.0) -> Counter:
    leader = Leader("node", wanted=True)
    leader.until = float("inf")
    counting = Counter(
        Counting(),  # type: ignore[arg-type]
        table,
        MetricsOptions(interval=interval),
        leader,
        is_quiet=lambda: table.is_quiet,
    )
    counting.is_first = False
    return counting


async def test_a_month_takes_no_more_memory_than_a_day(request: pytest.FixtureRequest) -> None:
    """By the minute: new workers and writers all the time, and hours of it with no database."""
    meter, table = Meter(), Table(1)
    counting, session = counter(table), Teller()
    telling = reporter(session, meter)
    jobs = [claimed(f"w{n}", waited=n) for n in range(2_000)]
    blocks: list[int] = []
    request.addfinalizer(gc.unfreeze)
    gc.freeze()  # what others have made is not looked through each day
    for minute in range(30 * 1_440):
        table.at += 60
        table.writers = frozenset({f"3/{minute // 7}", f"4/{minute}"})
        for n in range(3):
            meter.note(jobs[(3 * minute + n) % len(jobs)], "completed", minute * 1_003 + n)
        session.fates = [DatabaseUnavailable("away")] if 10_000 < minute < 10_300 else []
        with suppress(DatabaseUnavailable):
            await telling.tick()
        await counting.tick()
        if minute % 1_440 == 1_439:
            table.steps.clear()
            gc.collect()
            blocks.append(sys.getallocatedblocks())
    assert blocks[-1] < blocks[0] + 500, blocks
    assert len(counting.horizon.writers) == 2


@pytest.mark.parametrize(("per_second", "longest"), [(0, 21_600), (1, 21_600), (20_000, 60)])
async def test_a_backlog_is_counted_in_steps_that_fit_it(per_second: float, longest: float) -> None:
    table = Table(per_second)
    table.at += 6 * 3_600
    counting, ticks = counter(table), 1
    while await counting.tick() == BREATH:
        ticks += 1
        assert ticks < 10_000
    assert table.counted_to == table.at - 1
    assert max(table.steps) <= longest
    assert max(table.steps) >= min(longest, 60)


async def test_a_count_that_takes_long_is_made_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    counting = counter(table := Table(1), interval=0.1)

    async def count(operation: Any) -> Counted:
        await asyncio.sleep(0.05)
        return Counted(0, table.at)

    monkeypatch.setattr(table, "execute", count)
    monkeypatch.setattr(counting, "tended_at", math.inf)
    assert await counting.tick() >= 1


async def test_while_nothing_ends_most_looks_are_left_out() -> None:
    table = Table(0)
    counting = counter(table)
    await counting.tick()
    table.is_quiet = True
    for _ in range(3 + 2 * 6):
        await counting.tick()
    assert len(table.steps) == 4
    table.is_quiet = False
    await counting.tick()
    assert len(table.steps) == 5
    table.is_quiet, table.per_second = True, 1
    for _ in range(6):
        table.at += 5
        await counting.tick()
    table.at += 5
    assert await counting.tick() == counting.options.interval
    assert len(table.steps) == 7  # what ended elsewhere is found at the next look, and then at each
    assert await quiet_looks(300) == 3


async def quiet_looks(interval: float) -> int:
    """Of three: after ten minutes without one, others would take counting for over."""
    table = Table(0)
    table.is_quiet = True
    counting = counter(table, interval=interval)
    counting.left_out = 0
    for _ in range(3):
        await counting.tick()
    return len(table.steps)


async def test_a_transaction_that_does_not_end_holds_it_up_for_ten_minutes_and_is_told_of(
    events: list[Any],
) -> None:
    table = Table(1)
    counting = counter(table)
    await counting.tick()
    table.writers = frozenset({"3/14"})
    for _ in range(200):
        table.at += 5
        await counting.tick()
    assert table.counted_to == table.at - MOST_HELD
    (held,) = named(events, "oban.counter.held")
    assert held["seconds"] >= MOST_HELD
    table.writers = frozenset()
    table.at += 5
    while await counting.tick() == BREATH:
        pass
    assert table.counted_to == table.at - 1
