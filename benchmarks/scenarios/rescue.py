"""How soon the jobs of a killed node run again; the measurement itself is `benchmarks.rescue`."""

import asyncio
from types import MappingProxyType

from benchmarks import rescue
from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.figures import Budget, own, own_extra
from benchmarks.measurement import Measurement
from benchmarks.scenarios.scenario import Scenario

ROUNDS = 5


class Rescue(Scenario):
    name = "rescue"
    title = "from SIGKILL until all its jobs run again, defaults, worst of 5"
    group = "Other jobs"
    unit = "s"
    details = MappingProxyType({"worst_1s": "heartbeat each second"})
    higher_is_better = False
    quick = "none"
    full = "ours"
    once = True
    budgets = (
        Budget("<= 20 s with defaults", own("rescue"), 20, at_most=True, unit="s"),
        Budget(
            "<= 5 s with a heartbeat each second",
            own_extra("rescue", "worst_1s"),
            5,
            at_most=True,
            unit="s",
        ),
    )

    def run(self, system: System, bench: Bench) -> Measurement:
        found = asyncio.run(rescue.measure_all(bench.server.dsn("postgres"), ROUNDS))
        worst = {interval: 0.0 for interval, _ in found}
        for (interval, _), took in found.items():
            worst[interval] = max(worst[interval], *took)
        return Measurement(worst[0], {"worst_1s": worst[1]})
