"""Jobs that keep a core busy, in child processes, and the same work in a bare pool of as many."""

import json
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Final

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.figures import Budget, own
from benchmarks.measurement import AdapterFailed, Measurement
from benchmarks.scenarios.scenario import Part, Scenario

PROGRAM: Final = Path(__file__).parent.parent / "systems" / "cpu_bound.py"
CHILDREN: Final = 2
#: Jobs a second that a child may run, about.
RATE: Final = 60


class CpuBound(Scenario):
    name = "cpu_bound"
    title = "jobs of 20 ms of computing, in two child processes"
    group = "Controls"
    unit = "of a bare process pool"
    quick: ClassVar[Part] = "ours"
    full: ClassVar[Part] = "ours"
    core = True
    details = MappingProxyType({"rate": "jobs/s"})
    budgets = (Budget(">= 0.9 of a bare process pool", own("cpu_bound"), 0.9),)

    def run(self, system: System, bench: Bench) -> Measurement:
        count = round(CHILDREN * RATE * bench.size.seconds)
        with bench.store(system) as store:
            command = [sys.executable, str(PROGRAM), store.dsn, str(count), str(CHILDREN)]
            ran = subprocess.run(
                command, capture_output=True, text=True, timeout=bench.size.patience, check=False
            )
        if ran.returncode:
            raise AdapterFailed(f"cpu_bound.py: {ran.stderr[-500:]}")
        rates = json.loads(ran.stdout)
        extras = {"rate": rates["oban"], "rate_of_the_pool": rates["pool"]}
        return Measurement(rates["oban"] / rates["pool"], extras)
