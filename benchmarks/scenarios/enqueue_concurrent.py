"""How fast many callers of one process enqueue at the same time."""

from types import MappingProxyType

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.figures import OURS, Budget, extra_ratio
from benchmarks.measurement import Measurement
from benchmarks.scenarios.scenario import Scenario

CALLERS = 100
REFERENCE = "bare_sql"
#: Statements of the reference: enough that a fast one is timed well.
STATEMENTS = 200


class EnqueueConcurrent(Scenario):
    name = "enqueue_concurrent"
    title = "enqueue by 100 coroutines"
    details = MappingProxyType({"mean_batch": "jobs a commit"})
    needs = frozenset({"concurrent"})
    quick = "all"
    full = "all"
    core = True
    budgets = (
        Budget(
            ">= 0.3 of bare SQL JSON insert at the same mean batch",
            extra_ratio("enqueue_concurrent", "rate", "same_batch_rate"),
            0.3,
        ),
    )

    def run(self, system: System, bench: Bench) -> Measurement:
        found, cost = bench.timed_enqueue(system, "concurrent", callers=CALLERS)
        extras = {"jobs": float(found.count), "rate": found.rate}
        if cost is not None:
            extras["wal_bytes_per_job"] = cost.wal_bytes / found.count
            extras["mean_batch"] = found.count / max(1, cost.commits)
        if system.name == OURS:
            extras["same_batch_rate"] = reference(bench, round(extras["mean_batch"]))
        return Measurement(found.rate, extras)


def reference(bench: Bench, batch: int) -> float:
    """Jobs a second of the bare statement, with as many in each as ours had on average."""
    system = bench.systems[REFERENCE]
    with bench.store(system) as store:
        store.settle()
        how = "bulk" if batch > 1 else "one"
        count = STATEMENTS * max(1, batch)
        found = bench.enqueue(system, store, count=count, how=how, batch=batch)
        bench.require_all(system, store, count)
    return found.rate
