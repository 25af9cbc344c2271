"""What it costs that nodes are told of each insert: a NOTIFY takes a lock of all at commit."""

from types import MappingProxyType

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.figures import Budget, own
from benchmarks.measurement import Measurement
from benchmarks.scenarios.scenario import Scenario

PROCESSES = 8
JOBS = {"quick": 300, "full": 2_000}


class Notifications(Scenario):
    name = "notifications"
    title = "8 processes enqueueing one by one, with notifications"
    group = "Other jobs"
    unit = "of without"
    details = MappingProxyType({"rate": "jobs/s"})
    quick = "ours"
    full = "ours"
    budgets = (Budget(">= 0.8 of without", own("notifications"), 0.8),)

    def run(self, system: System, bench: Bench) -> Measurement:
        rates = {}
        for notify in (False, True):
            with bench.store(system) as store:
                store.settle()
                count = JOBS[bench.size.name]
                rates[notify] = bench.enqueue_together(
                    system, store, PROCESSES, count, how="one", notify=notify
                )
                bench.require_all(system, store, PROCESSES * count)
        extras = {"rate": rates[True], "rate_without": rates[False]}
        return Measurement(rates[True] / rates[False], extras)
