"""How soon a job starts when the worker has nothing else to do."""

from types import MappingProxyType

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.figures import POSTGRES_PEERS, Budget, against_fastest
from benchmarks.measurement import Measurement, spread
from benchmarks.scenarios.scenario import Scenario

CONCURRENCY = 10
PAUSE = 0.02
JOBS = {"quick": 150, "full": 1_000}
#: The first find caches empty and connections unused.
WARMING = 20
FASTEST = "the fastest PostgreSQL peer"


class LatencyIdle(Scenario):
    name = "latency_idle"
    title = "from enqueue to start, idle worker, median"
    group = "Latency"
    unit = "ms"
    higher_is_better = False
    needs = frozenset({"paced"})
    details = MappingProxyType({"p95": "p95", "p99": "p99"})
    budgets = (
        Budget(
            f"p50 <= 0.8x of {FASTEST}",
            against_fastest("latency_idle", POSTGRES_PEERS, lowest=True),
            0.8,
            at_most=True,
        ),
        Budget(
            f"p99 <= 1.1x of {FASTEST}",
            against_fastest("latency_idle", POSTGRES_PEERS, name="p99", lowest=True),
            1.1,
            at_most=True,
        ),
    )

    def run(self, system: System, bench: Bench) -> Measurement:
        count = JOBS[bench.size.name] + WARMING
        with bench.store(system) as store:
            store.settle()
            with bench.workers(system, store, concurrency=CONCURRENCY) as working:
                bench.enqueue(system, store, count=count, how="paced", pause=PAUSE)
                working.finish(count, bench.size.patience)
        late = spread(working.records.late[WARMING:])
        return Measurement(late["p50"], late)
