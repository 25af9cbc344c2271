"""How fast jobs pass that are there already: claimed, run, completed."""

from typing import ClassVar

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.figures import (
    PYTHON_PEERS,
    Budget,
    against,
    against_fastest,
    against_loop,
    against_own,
)
from benchmarks.measurement import Measurement
from benchmarks.scenarios.scenario import Part, Scenario


class Drain(Scenario):
    """The jobs do nothing, so that what is seen is the queue."""

    concurrency = 10
    processes = 1
    quick: ClassVar[Part] = "all"
    full = "all"
    core = True

    def run(self, system: System, bench: Bench) -> Measurement:
        drained = bench.timed_drain(system, concurrency=self.concurrency, processes=self.processes)
        return Measurement(drained.rate, drained.extras())


class Drain10(Drain):
    name = "drain_10"
    title = "drain, one process, concurrency 10"
    budgets = (
        Budget(">= 2x the fastest Python peer", against_fastest("drain_10", PYTHON_PEERS), 2),
        Budget(">= 0.75 of the bare loop", against_loop("drain_10"), 0.75),
        Budget(">= 0.5 of graphile-worker", against("drain_10", "graphile_worker"), 0.5),
    )


class Drain100(Drain):
    name = "drain_100"
    title = "drain, one process, concurrency 100"
    concurrency = 100
    budgets = (
        Budget(">= 1.5x the fastest Python peer", against_fastest("drain_100", PYTHON_PEERS), 1.5),
        Budget(">= 0.6 of the bare loop", against_loop("drain_100"), 0.6),
        Budget(">= 0.5 of graphile-worker", against("drain_100", "graphile_worker"), 0.5),
    )


class TwoProcesses(Drain):
    name = "two_processes"
    title = "drain, two processes, concurrency 50 each"
    concurrency = 50
    processes = 2
    quick = "postgres"
    needs = frozenset({"processes"})
    budgets = (
        Budget(">= 1.7x the fastest peer", against_fastest("two_processes", PYTHON_PEERS), 1.7),
        Budget(">= one process", against_own("two_processes", "drain_100"), 1),
        Budget(
            ">= graphile-worker's one",
            against("two_processes", "graphile_worker", their_scenario="drain_100"),
            1,
        ),
    )


class FourProcesses(Drain):
    name = "four_processes"
    title = "drain, four processes, concurrency 25 each"
    concurrency = 25
    processes = 4
    quick = "limits"
    core = False
    needs = frozenset({"processes"})
    budgets = (
        Budget(">= 1.7x the fastest peer", against_fastest("four_processes", PYTHON_PEERS), 1.7),
    )
