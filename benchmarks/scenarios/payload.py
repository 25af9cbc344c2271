"""How fast jobs with large arguments pass."""

from types import MappingProxyType
from typing import ClassVar

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.measurement import Measurement
from benchmarks.scenarios.scenario import Scenario


class Payload(Scenario):
    group = "Other jobs"
    details = MappingProxyType({"insert_rate": "inserted/s"})
    needs = frozenset({"payload"})
    quick = "limits"
    characters = 0
    jobs: ClassVar = {"quick": 0, "full": 0}

    def run(self, system: System, bench: Bench) -> Measurement:
        count = self.jobs[bench.size.name]
        with bench.store(system) as store:
            inserted = bench.fill(system, store, count, payload=self.characters)
            store.settle()
            drained = bench.drain(system, store, count, concurrency=10)
        return Measurement(drained.rate, {**drained.extras(), "insert_rate": inserted.rate})


class PayloadOneK(Payload):
    name = "payload_1k"
    title = "drain with 1 kB of arguments, concurrency 10"
    characters = 1_000
    jobs: ClassVar = {"quick": 5_000, "full": 20_000}


class PayloadHundredK(Payload):
    name = "payload_100k"
    title = "drain with 100 kB of arguments, concurrency 10"
    characters = 100_000
    jobs: ClassVar = {"quick": 500, "full": 2_000}
