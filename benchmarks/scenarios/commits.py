"""What 20,000 jobs cost the server: commits, bytes of its log, versions of rows, index entries."""

from collections.abc import Mapping
from types import MappingProxyType

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.figures import Budget, own
from benchmarks.measurement import Measurement
from benchmarks.scenarios.scenario import Scenario

JOBS = 20_000
CONCURRENCY = 100
#: Records of the log by what they add. A page that is split takes an entry, too.
RECORDS = {
    "index_entries": ("Btree/INSERT_LEAF", "Btree/INSERT_POST", "Btree/SPLIT_L", "Btree/SPLIT_R"),
    "row_versions": (
        "Heap/INSERT",
        "Heap/INSERT+INIT",
        "Heap/UPDATE",
        "Heap/UPDATE+INIT",
        "Heap/HOT_UPDATE",
    ),
    "hot_updates": ("Heap/HOT_UPDATE",),
}


class Commits(Scenario):
    name = "commits"
    title = "transactions for 20,000 jobs, start and stop included"
    group = "Cost"
    unit = "transactions"
    details = MappingProxyType(
        {
            "wal_bytes_per_job": "bytes of WAL a job",
            "row_versions_per_job": "row versions a job",
            "index_entries_per_job": "index entries a job",
            "cpu_us": "worker µs a job",
        }
    )
    higher_is_better = False
    quick = "limits"
    once = True
    budgets = (Budget("at most 500", own("commits"), 500, at_most=True, unit="transactions"),)

    def run(self, system: System, bench: Bench) -> Measurement:
        with bench.store(system) as store:
            bench.fill(system, store, JOBS)
            store.settle()
            drained = bench.drain(system, store, JOBS, concurrency=CONCURRENCY)
            cost = drained.cost
            assert cost is not None
            # Dropping the database recycles the log.
            written = bench.server.wal_records(cost.begin, cost.end)
        return Measurement(cost.commits, {**drained.extras(), **per_job(written)})


def per_job(written: Mapping[str, int]) -> dict[str, float]:
    if not written:
        return {}
    return {
        f"{name}_per_job": sum(written.get(kind, 0) for kind in kinds) / JOBS
        for name, kinds in RECORDS.items()
    }
