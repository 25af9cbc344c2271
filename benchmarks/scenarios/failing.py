"""How fast jobs pass that fail when they first run, and are tried again at once."""

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.figures import Budget, against_own
from benchmarks.measurement import Measurement
from benchmarks.records import SECOND
from benchmarks.scenarios.scenario import Scenario


class Failing(Scenario):
    name = "failing"
    title = "jobs that fail first, concurrency 100, both attempts counted"
    group = "Other jobs"
    unit = "attempts/s"
    needs = frozenset({"fail"})
    quick = "ours"
    budgets = (Budget(">= 0.7 of the drain", against_own("failing", "drain_100"), 0.7),)

    def run(self, system: System, bench: Bench) -> Measurement:
        drained = bench.timed_drain(system, concurrency=100, fail=True)
        # What fails writes no record: the time is counted from when the worker was there.
        seconds = drained.records.runs[-1].began / SECOND - drained.ready_at
        attempts = 2 * len(drained.records.runs)
        return Measurement(attempts / seconds, drained.extras())
