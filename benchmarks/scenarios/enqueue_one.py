"""How fast one caller enqueues, each job durable before the next."""

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.figures import POSTGRES_PEERS, Budget, against, against_fastest
from benchmarks.measurement import Measurement
from benchmarks.scenarios.scenario import Scenario


class EnqueueOne(Scenario):
    name = "enqueue_one"
    title = "enqueue one by one, each awaited"
    quick = "all"
    full = "all"
    core = True
    budgets = (
        Budget(">= the fastest PostgreSQL peer", against_fastest("enqueue_one", POSTGRES_PEERS), 1),
        Budget(">= 0.85 of bare SQL", against("enqueue_one", "bare_sql"), 0.85),
    )

    def run(self, system: System, bench: Bench) -> Measurement:
        found, cost = bench.timed_enqueue(system, "one")
        extras = {"jobs": float(found.count)}
        if cost is not None:
            extras["wal_bytes_per_job"] = cost.wal_bytes / found.count
        return Measurement(found.rate, extras)
