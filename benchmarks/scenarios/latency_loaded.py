"""How soon a job starts when the worker is busy for 70 % of what it can do.

What it can do is found in the same run, with jobs that come while others run: a drain alone is
faster, since nobody inserts.
"""

from types import MappingProxyType

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.figures import OURS, UNKNOWN, Budget, Figures
from benchmarks.measurement import Measurement, spread
from benchmarks.records import Records
from benchmarks.scenarios.scenario import Scenario

CONCURRENCY = 100
LOAD = 0.7
#: Jobs that arrive together, and the seconds between: as an application with many requests has it.
FEED = 50
TICK = 0.01
FIRST = 2_000


def over_bound(figures: Figures) -> float | str:
    """The p99 to what it may be: three times that of the idle worker, and one batch more."""
    loaded, idle = figures.median("latency_loaded"), figures.extra("latency_idle", "p99")
    batch = figures.extra("latency_loaded", "batch_ms", OURS)
    if loaded is None or idle is None or batch is None:
        return UNKNOWN
    return loaded / (3 * idle + batch)


class LatencyLoaded(Scenario):
    name = "latency_loaded"
    title = "from enqueue to start at 70 % load, p99"
    group = "Latency"
    unit = "ms"
    higher_is_better = False
    needs = frozenset({"paced", "bulk"})
    details = MappingProxyType({"p50": "p50", "rate": "jobs/s"})
    quick = "limits"
    budgets = (Budget("p99 <= 3x of idle's p99 plus one batch", over_bound, 1, at_most=True),)

    def takes_part(self, system: System) -> bool:
        return not system.node  # its adapter inserts one at a time when paced

    def run(self, system: System, bench: Bench) -> Measurement:
        capacity = feed(system, bench, FIRST, FEED, 0.0).rate
        capacity = feed(system, bench, jobs(bench, capacity), FEED, 0.0).rate
        rate = LOAD * capacity
        batch = max(1, round(rate * TICK))
        late = spread(feed(system, bench, jobs(bench, rate), batch, batch / rate).late)
        batch_ms = 1e3 * max(CONCURRENCY, batch) / capacity
        return Measurement(late["p99"], {**late, "rate": rate, "batch_ms": batch_ms})


def jobs(bench: Bench, rate: float) -> int:
    return max(FIRST, round(rate * bench.size.seconds))


def feed(system: System, bench: Bench, count: int, batch: int, pause: float) -> Records:
    """Insert jobs while others run; `pause` zero is as fast as it goes."""
    with bench.store(system) as store:
        store.settle()
        with bench.workers(system, store, concurrency=CONCURRENCY) as working:
            bench.enqueue(system, store, count=count, how="paced", batch=batch, pause=pause)
            working.finish(count, bench.size.patience)
    return working.records
