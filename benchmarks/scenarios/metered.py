"""What it costs a drain that metrics are kept of it."""

from types import MappingProxyType
from typing import ClassVar

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.figures import Budget, own
from benchmarks.measurement import Measurement
from benchmarks.scenarios.scenario import Part, Scenario

CONCURRENCY = 100


class Metered(Scenario):
    name = "metrics"
    title = "drain with metrics kept each second, concurrency 100"
    group = "Controls"
    unit = "of without"
    quick: ClassVar[Part] = "ours"
    full: ClassVar[Part] = "ours"
    core = True
    details = MappingProxyType({"rate": "jobs/s"})
    budgets = (Budget(">= 0.95 of without", own("metrics"), 0.95),)

    def run(self, system: System, bench: Bench) -> Measurement:
        # In turns, since what is looked for is less than a machine's speed varies.
        rates: dict[float, list[float]] = {0.0: [], 1.0: []}
        for metrics in (0.0, 1.0, 1.0, 0.0):
            found = bench.timed_drain(system, concurrency=CONCURRENCY, metrics=metrics)
            rates[metrics].append(found.rate)
        without, kept = (sum(rates[metrics]) / 2 for metrics in (0.0, 1.0))
        return Measurement(kept / without, {"rate": kept, "rate_without": without})
