"""How late scheduled jobs start that another process inserts."""

from types import MappingProxyType

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.figures import Budget, own
from benchmarks.measurement import Measurement, spread
from benchmarks.scenarios.scenario import Scenario

JOBS = 500
CONCURRENCY = 20
#: The last is due then; the first after a twentieth of it.
SECONDS = 3.0


class Promptness(Scenario):
    name = "promptness"
    title = "500 jobs due in 0.2 to 3 s, late by, p95"
    group = "Latency"
    unit = "ms"
    higher_is_better = False
    quick = "ours"
    needs = frozenset({"delay"})
    details = MappingProxyType({"p50": "p50", "p99": "p99"})
    budgets = (Budget("p95 <= 50 ms", own("promptness"), 50, at_most=True, unit="ms"),)

    def run(self, system: System, bench: Bench) -> Measurement:
        with bench.store(system) as store:
            store.settle()
            with bench.workers(system, store, concurrency=CONCURRENCY) as working:
                bench.enqueue(system, store, count=JOBS, how="paced", delay=SECONDS)
                working.finish(JOBS, bench.size.patience)
        late = working.records.late
        found = spread(late)
        # Below zero some started before their time.
        return Measurement(found["p95"], {**found, "least": min(late)})
