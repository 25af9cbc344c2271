"""What limits over all nodes cost a drain that never reaches them."""

from types import MappingProxyType
from typing import ClassVar

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.figures import Budget, own
from benchmarks.measurement import Measurement
from benchmarks.scenarios.scenario import Part, Scenario

CONCURRENCY = 100


class Limited(Scenario):
    group = "Controls"
    unit = "of without"
    quick: ClassVar[Part] = "ours"
    full: ClassVar[Part] = "ours"
    core = True
    #: As the adapter knows them.
    limits: ClassVar[str]
    details = MappingProxyType({"rate": "jobs/s"})

    def run(self, system: System, bench: Bench) -> Measurement:
        without = bench.timed_drain(system, concurrency=CONCURRENCY)
        found = bench.timed_drain(system, concurrency=CONCURRENCY, limits=self.limits)
        extras = {"rate": found.rate, "rate_without": without.rate}
        return Measurement(found.rate / without.rate, extras)


class LimitsGlobal(Limited):
    name = "limits_global"
    title = "drain with a global limit, concurrency 100"
    limits = "global"
    budgets = (Budget(">= 0.6 of without", own("limits_global"), 0.6),)


class LimitsShared(Limited):
    name = "limits_shared"
    title = "drain with a limit that queues share, concurrency 100"
    limits = "shared"


class LimitsPartitions(Limited):
    name = "limits_partitions"
    title = "drain with a global limit of 100 partitions, concurrency 100"
    limits = "partitions"
    budgets = (Budget(">= 0.4 of without", own("limits_partitions"), 0.4),)


class LimitsRate(Limited):
    name = "limits_rate"
    title = "drain with a rate limit, concurrency 100"
    limits = "rate"


class LimitsRates(Limited):
    name = "limits_rates"
    title = "drain with a rate limit of 100 partitions, concurrency 100"
    limits = "rates"
