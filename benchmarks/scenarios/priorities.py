"""How fast jobs of four priorities pass, inserted in turn."""

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.measurement import Measurement
from benchmarks.scenarios.scenario import Scenario


class Priorities(Scenario):
    name = "priorities"
    title = "drain of four priorities, concurrency 100"
    group = "Other jobs"
    needs = frozenset({"priorities"})
    quick = "limits"

    def run(self, system: System, bench: Bench) -> Measurement:
        drained = bench.timed_drain(system, concurrency=100, priorities=4)
        return Measurement(drained.rate, drained.extras())
