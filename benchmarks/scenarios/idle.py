"""What a node costs that has nothing to do."""

import time
from types import MappingProxyType

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.figures import Budget, own, own_extra
from benchmarks.measurement import Measurement
from benchmarks.scenarios.scenario import Scenario

#: Beside the first.
IDLE_QUEUES = 4
#: What starting needs is not counted: the counter catches up with the history after fifteen
#: seconds, and sessions report what they did after up to ten.
SETTLING = 27.0
#: Transactions of the first look itself, which the server counts when it is over.
LOOKING = 2
SECONDS = {"quick": 12.0, "full": 60.0}


class Idle(Scenario):
    name = "idle"
    title = "idle node with five queues"
    group = "Cost"
    unit = "commits/s"
    details = MappingProxyType({"core": "% of a core"})
    higher_is_better = False
    quick = "ours"
    full = "ours"  # the adapters of the peers have one queue
    once = True
    budgets = (
        Budget("<= 1.5 commits/s", own("idle"), 1.5, at_most=True, unit="commits/s"),
        Budget("<= 0.5 % of a core", own_extra("idle", "core"), 0.5, at_most=True, unit="%"),
    )

    def run(self, system: System, bench: Bench) -> Measurement:
        seconds = SECONDS[bench.size.name]
        with (
            bench.store(system) as store,
            bench.workers(system, store, concurrency=10, idle_queues=IDLE_QUEUES) as working,
        ):
            store.settle()  # else autovacuum does, for tables that were made a moment ago
            time.sleep(SETTLING)
            before, cpu = store.counters(alone=False), working.cpu_so_far()
            time.sleep(seconds)
            used = working.cpu_so_far() - cpu
            cost = store.cost(before, alone=False)
            working.stop()
        assert cost is not None
        return Measurement(
            (cost.commits - LOOKING) / seconds,
            {"core": 100 * used / seconds, "wal_bytes_per_s": cost.wal_bytes / seconds},
        )
