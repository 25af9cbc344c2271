"""Whether finished jobs that are kept make new ones slower, and whether forgetting them does."""

from types import MappingProxyType
from typing import ClassVar

import psycopg

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.figures import OURS, Budget, own, own_extra
from benchmarks.measurement import Measurement
from benchmarks.scenarios.scenario import Part, Scenario
from benchmarks.store import Store

CONCURRENCY = 100
#: As they would be if they had passed in the last hours, one after the other.
FILL = """
insert into {table}
  (state, worker, attempt, args, attempted_by, inserted_at, scheduled_at, attempted_at,
   completed_at)
select 'completed', 'oban_adapter.Recording', 1, jsonb_build_object('n', number),
  array['node', '00000000-0000-0000-0000-000000000000'], at, at, at, at
from generate_series(1, {count}) as number,
  lateral (
    select timezone('UTC', now()) - interval '{hours} hours'
      + interval '12 hours' * number / {count} as at
  ) as moment
"""
OLD = """
select count(*) from oban_jobs where completed_at < timezone('UTC', now()) - interval '1 day'
"""


class History(Scenario):
    group = "Size"
    unit = "of empty"
    quick: ClassVar[Part] = "none"
    full = "limits"
    once = True
    rows = 0
    details = MappingProxyType({"drain_rate": "jobs/s", "enqueue_ratio": "enqueue, of empty"})

    def run(self, system: System, bench: Bench) -> Measurement:
        empty = bench.timed_drain(system, concurrency=CONCURRENCY)
        empty_enqueue, _ = bench.timed_enqueue(system, "one")
        count = len(empty.records.runs)
        with bench.store(system) as store:
            finish(system, store, self.rows, hours=13)
            bench.fill(system, store, count)
            store.settle()
            full = bench.drain(system, store, count, concurrency=CONCURRENCY)
            store.settle()
            jobs = {"count": empty_enqueue.count, "first": count}
            before = store.count(system.table)
            full_enqueue = bench.enqueue(system, store, how="one", **jobs)
            bench.require_all(system, store, (before or 0) + empty_enqueue.count)
        return Measurement(
            full.rate / empty.rate,
            {
                "drain_rate": full.rate,
                "enqueue_rate": full_enqueue.rate,
                "enqueue_ratio": full_enqueue.rate / empty_enqueue.rate,
            },
        )


class HistoryOneMillion(History):
    name = "history_1m"
    title = "drain beside 1,000,000 finished jobs"
    quick = "ours"
    rows = 1_000_000
    budgets = (
        Budget("drain >= 0.9 of empty", own("history_1m"), 0.9),
        Budget("enqueue >= 0.9 of empty", own_extra("history_1m", "enqueue_ratio"), 0.9),
    )


class HistoryTenMillion(History):
    name = "history_10m"
    title = "drain beside 10,000,000 finished jobs"
    rows = 10_000_000
    budgets = (
        Budget("drain >= 0.9 of empty", own("history_10m"), 0.9),
        Budget("enqueue >= 0.9 of empty", own_extra("history_10m", "enqueue_ratio"), 0.9),
    )


class Pruning(Scenario):
    """The finished jobs are old enough to be forgotten, and are, while others run."""

    name = "pruning"
    title = "drain while finished jobs are pruned"
    group = "Size"
    unit = "of without"
    quick = "ours"
    full = "ours"
    once = True
    budgets = (Budget("prune does not lower the drain by more than 20 %", own("pruning"), 0.8),)
    rows: ClassVar = {"quick": 200_000, "full": 2_000_000}
    #: Longer than other drains, so that a good part of them is forgotten meanwhile.
    seconds: ClassVar = {"quick": 3, "full": 20}

    def run(self, system: System, bench: Bench) -> Measurement:
        rows, size = self.rows[bench.size.name], bench.size.name
        rate = bench.timed_drain(system, concurrency=CONCURRENCY).rate
        count = round(rate * self.seconds[size])
        rates, left = {}, 0
        for prune in (False, True):
            with bench.store(system) as store:
                finish(system, store, rows, hours=48)
                bench.fill(system, store, count)
                store.settle()
                found = bench.drain(system, store, count, concurrency=CONCURRENCY, prune=prune)
                rates[prune] = found.rate
                left = old_rows(store)
        extras = {"rate": rates[True], "rate_without": rates[False], "pruned": rows - left}
        return Measurement(rates[True] / rates[False], extras)


def finish(system: System, store: Store, count: int, *, hours: int) -> None:
    """Put jobs there that ended within twelve hours, the first of them so many hours ago."""
    table = "oban_jobs" if system.name == OURS else "bare_jobs"
    with psycopg.connect(store.dsn, autocommit=True) as connection:
        connection.execute(FILL.format(table=table, count=count, hours=hours).encode())


def old_rows(store: Store) -> int:
    with psycopg.connect(store.dsn) as connection:
        row = connection.execute(OLD).fetchone()
    assert row is not None
    return int(row[0])
