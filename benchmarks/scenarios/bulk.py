"""How fast a list of jobs is inserted, by whatever a system has for that."""

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.figures import PYTHON_PEERS, Budget, against, against_fastest
from benchmarks.measurement import Measurement
from benchmarks.scenarios.scenario import Scenario

JOBS = 20_000


class Bulk(Scenario):
    name = "bulk"
    title = "insert 20,000 jobs at once"
    needs = frozenset({"bulk"})
    core = True
    budgets = (
        Budget(">= 1.3x the fastest peer", against_fastest("bulk", PYTHON_PEERS), 1.3),
        Budget(">= 0.5 of JSON insert by bare SQL", against("bulk", "bare_sql"), 0.5),
    )

    def run(self, system: System, bench: Bench) -> Measurement:
        with bench.store(system) as store:
            store.settle()
            before = store.counters()
            found = bench.enqueue(system, store, count=JOBS, how="bulk")
            cost = store.cost(before)
            bench.require_all(system, store, JOBS)
        extras = {"jobs": float(JOBS)}
        if cost is not None:
            extras["wal_bytes_per_job"] = cost.wal_bytes / JOBS
        return Measurement(found.rate, extras)
