"""What a worker process has in memory at most, and whether that grows."""

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.figures import Budget, own, own_extra
from benchmarks.measurement import Measurement
from benchmarks.scenarios.scenario import Scenario

CONCURRENCY = 100
JOBS = 20_000
MORE = 1_000_000
PATIENCE = 600.0


class Memory(Scenario):
    name = "memory"
    title = "memory of a worker process at concurrency 100"
    group = "Cost"
    unit = "MiB"
    higher_is_better = False
    quick = "limits"
    once = True
    budgets = (
        Budget("<= 60 MiB", own("memory"), 60, at_most=True, unit="MiB"),
        Budget(
            "flat: 1,000,000 jobs take at most 5 MiB more than 20,000; full size",
            own_extra("memory", "growth_mib"),
            5,
            at_most=True,
            unit="MiB",
        ),
    )

    def run(self, system: System, bench: Bench) -> Measurement:
        few = self.after(system, bench, JOBS)
        extras = {"jobs": float(JOBS)}
        if bench.size.name == "full" and system.name == "oban":
            extras["growth_mib"] = self.after(system, bench, MORE) - few
        return Measurement(few, extras)

    def after(self, system: System, bench: Bench, count: int) -> float:
        with bench.store(system) as store:
            bench.fill(system, store, count)
            options = {"concurrency": CONCURRENCY, "seconds": PATIENCE}
            return bench.drain(system, store, count, **options).memory
