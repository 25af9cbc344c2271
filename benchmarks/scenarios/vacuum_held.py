"""Whether jobs pass while somebody's long transaction keeps dead rows from being removed."""

from types import MappingProxyType

import psycopg
from psycopg import IsolationLevel

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.figures import Budget, own
from benchmarks.measurement import Measurement
from benchmarks.scenarios.scenario import Scenario

CONCURRENCY = 100
JOBS = {"quick": 300_000, "full": 1_000_000}
PATIENCE = {"quick": 120.0, "full": 1_200.0}


class VacuumHeld(Scenario):
    name = "vacuum_held"
    title = "drain while a transaction holds vacuum back"
    group = "Size"
    unit = "of normal"
    details = MappingProxyType({"rate": "jobs/s"})
    quick = "ours"
    full = "limits"
    once = True
    budgets = (
        Budget(">= 0.5 of normal; 1,000,000 jobs in the full size", own("vacuum_held"), 0.5),
    )

    def run(self, system: System, bench: Bench) -> Measurement:
        size = bench.size.name
        normal = bench.timed_drain(system, concurrency=CONCURRENCY).rate
        with bench.store(system) as store:
            bench.fill(system, store, JOBS[size])
            store.settle()
            with psycopg.connect(store.dsn) as holder:
                holder.isolation_level = IsolationLevel.REPEATABLE_READ
                holder.execute("select 1")  # takes the snapshot, which lasts until the end
                held = bench.drain(
                    system, store, JOBS[size], concurrency=CONCURRENCY, seconds=PATIENCE[size]
                )
        extras = {"rate": held.rate, "normal_rate": normal, "jobs": JOBS[size]}
        return Measurement(held.rate / normal, extras)
