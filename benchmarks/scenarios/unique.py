"""What it costs that a job is inserted only if no job like it is there; none is."""

from types import MappingProxyType
from typing import ClassVar

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.figures import Budget, own
from benchmarks.measurement import Measurement
from benchmarks.scenarios.scenario import Part, Scenario


class Unique(Scenario):
    group = "Controls"
    unit = "of without"
    quick: ClassVar[Part] = "ours"
    full: ClassVar[Part] = "ours"
    core = True
    #: How the jobs are enqueued.
    how: ClassVar[str] = "one"
    details = MappingProxyType({"rate": "jobs/s"})

    def run(self, system: System, bench: Bench) -> Measurement:
        without, _ = bench.timed_enqueue(system, self.how)
        found, _ = bench.timed_enqueue(system, self.how, unique=True)
        extras = {"rate": found.rate, "rate_without": without.rate}
        return Measurement(found.rate / without.rate, extras)


class UniqueOne(Unique):
    name = "unique"
    title = "enqueue unique jobs one by one, each awaited"
    budgets = (Budget(">= 0.6 of without", own("unique"), 0.6),)


class UniqueBulk(Unique):
    name = "unique_bulk"
    title = "insert unique jobs at once"
    how = "bulk"
    budgets = (Budget(">= 0.6 of without", own("unique_bulk"), 0.6),)
