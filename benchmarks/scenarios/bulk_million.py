"""Whether a million jobs are inserted in the memory that a tenth of them takes."""

from types import MappingProxyType

from benchmarks.bench import Bench, Enqueued
from benchmarks.catalog import System
from benchmarks.figures import Budget, own_extra
from benchmarks.measurement import Measurement
from benchmarks.scenarios.scenario import Scenario

JOBS = 1_000_000
FEWER = 100_000
PATIENCE = 600.0


class BulkMillion(Scenario):
    name = "bulk_million"
    title = "insert 1,000,000 jobs of a generator"
    group = "Size"
    details = MappingProxyType({"memory_mib": "MiB", "growth_mib": "MiB more than for 100,000"})
    needs = frozenset({"bulk"})
    quick = "none"
    full = "ours"
    once = True
    budgets = (
        Budget(
            "1,000,000 take at most 16 MiB more than 100,000",
            own_extra("bulk_million", "growth_mib"),
            16,
            at_most=True,
            unit="MiB",
        ),
    )

    def run(self, system: System, bench: Bench) -> Measurement:
        fewer, all_of_them = stream(system, bench, FEWER), stream(system, bench, JOBS)
        return Measurement(
            all_of_them.rate,
            {
                "memory_mib": all_of_them.memory,
                "growth_mib": all_of_them.memory - fewer.memory,
                "rate_of_fewer": fewer.rate,
            },
        )


def stream(system: System, bench: Bench, count: int) -> Enqueued:
    with bench.store(system) as store:
        store.settle()
        found = bench.enqueue(system, store, count=count, how="stream", seconds=PATIENCE)
        bench.require_all(system, store, count)
    return found
