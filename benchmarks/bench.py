"""What scenarios are made of: enqueueing and draining, for any system, bounded and verified."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.catalog import System
from benchmarks.measurement import AdapterFailed, Void
from benchmarks.processes import Process, wait_until
from benchmarks.records import Lines, Records
from benchmarks.server import Server
from benchmarks.store import Cost, Store, fresh_store

PREPARE_SECONDS = 60.0
#: What a process needs until it could begin.
START_SECONDS = 0.4
#: After the last record: who runs a job twice has the time to show it.
AFTERWARDS = 0.2
#: Jobs of a first run that only finds out how many a timed one takes.
FIRST_ENQUEUE = 200
FIRST_DRAIN = 2_000
ATTEMPTS = 3
#: How many run at once that are only to show that they are there.
RUN_TO_VERIFY = 10


@dataclass(frozen=True)
class Size:
    name: Literal["quick", "full"]
    #: How long a timed run should take.
    seconds: float
    #: How long it may take before it is given up.
    patience: float
    #: The most jobs of a timed run, however fast they pass.
    most: int


QUICK = Size("quick", seconds=1.2, patience=45.0, most=100_000)
FULL = Size("full", seconds=5.0, patience=300.0, most=500_000)


@dataclass(frozen=True)
class Enqueued:
    count: int
    seconds: float
    #: The most the process had in memory, in MiB, where the adapter says so.
    memory: float

    @property
    def rate(self) -> float:
        return self.count / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Drained:
    records: Records
    #: By CLOCK_MONOTONIC in seconds: when all workers were ready.
    ready_at: float
    #: Seconds of processor time that all workers used.
    cpu: float
    #: The most that one of them had in memory, in MiB.
    memory: float
    cost: Cost | None

    @property
    def rate(self) -> float:
        return self.records.rate

    def extras(self) -> dict[str, float]:
        """What a drain shows beside its rate, for each job."""
        count = len(self.records.runs)
        found = {"jobs": count, "cpu_us": 1e6 * self.cpu / count, "memory_mib": self.memory}
        if self.cost is not None:
            found["commits"] = self.cost.commits
            found["wal_bytes_per_job"] = self.cost.wal_bytes / count
        return found


class Bench:
    """One run of the benchmarks on one server; remembers how fast systems were."""

    def __init__(self, server: Server, size: Size, systems: Mapping[str, System]) -> None:
        self.server = server
        self.size = size
        self.systems = systems
        self.rates: dict[tuple[object, ...], float] = {}

    @contextmanager
    def store(self, system: System) -> Iterator[Store]:
        """A new one with the system's tables, nothing in it."""
        with fresh_store(system, self.server) as store:
            self.ask(system, "prepare", PREPARE_SECONDS, dsn=store.dsn)
            yield store

    def ask(
        self, system: System, command: str, seconds: float, **order: Any
    ) -> Mapping[str, float] | None:
        with folder() as place, Process(system, command, order, place) as process:
            process.wait(seconds)
            return next(iter(process.answers()), None)

    def enqueue(
        self, system: System, store: Store, *, seconds: float | None = None, **order: Any
    ) -> Enqueued:
        """As `protocol.Order` says, in a process of its own."""
        patience = seconds or self.size.patience
        answer = self.ask(system, "enqueue", patience, dsn=store.dsn, **order)
        return enqueued(system, answer)

    def enqueue_together(
        self, system: System, store: Store, processes: int, count: int, **order: Any
    ) -> float:
        """Jobs a second of so many processes that begin at the same moment, `count` each."""
        begin = time.monotonic() + START_SECONDS * processes
        with ExitStack() as stack:
            place = stack.enter_context(folder())
            started = []
            for index in range(processes):
                numbers = {"count": count, "first": index, "step": processes}
                given = {**order, **numbers, "dsn": store.dsn, "begin": begin}
                started.append(stack.enter_context(Process(system, "enqueue", given, place)))
            for each in started:
                each.wait(self.size.patience)
            answers = [next(iter(each.answers()), None) for each in started]
        return sum(enqueued(system, answer).rate for answer in answers)

    def fill(self, system: System, store: Store, count: int, **order: Any) -> Enqueued:
        """In whatever way is fastest; what is measured comes after."""
        how = "bulk" if "bulk" in system.can else "concurrent"
        return self.enqueue(system, store, count=count, how=how, **order)

    def timed_enqueue(self, system: System, how: str, **order: Any) -> tuple[Enqueued, Cost | None]:
        """So many jobs that they take about as long as the size says."""
        key = (system.name, how, *sorted(order.items()))
        there = 0
        with self.store(system) as store:
            if key not in self.rates:
                first = self.enqueue(system, store, count=FIRST_ENQUEUE, how=how, **order)
                self.rates[key] = first.rate
                there = FIRST_ENQUEUE
            for _ in range(ATTEMPTS):
                wanted = round(self.rates[key] * self.size.seconds)
                count = min(self.size.most, max(FIRST_ENQUEUE, wanted))
                store.settle()
                before = store.counters()
                found = self.enqueue(system, store, count=count, first=there, how=how, **order)
                cost = store.cost(before)
                self.rates[key] = found.rate
                there += count
                if found.seconds > self.size.seconds / 2 or count == self.size.most:
                    break
            self.require_all(system, store, there)
        return found, cost

    def require_all(self, system: System, store: Store, count: int) -> None:
        """Raise `Void` unless the jobs numbered from zero are in the store, each once.

        Their rows are counted; where there are none the jobs are run.
        """
        found = store.count(system.table)
        if found is None:
            self.drain(system, store, count, concurrency=RUN_TO_VERIFY)
        elif found != count:
            raise Void(f"void: {count:,} were enqueued and {found:,} are there")

    def timed_drain(
        self, system: System, *, concurrency: int, processes: int = 1, **order: Any
    ) -> Drained:
        """So many jobs that they take about as long as the size says; they are there before."""
        rated = (system.name, concurrency, processes, *sorted(order.items()))
        similar = (system.name, *sorted(order.items()))
        rate = self.rates.get(rated) or self.rates.get(similar) or 0.0
        for _ in range(ATTEMPTS):
            count = min(self.size.most, max(FIRST_DRAIN, round(rate * self.size.seconds)))
            with self.store(system) as store:
                self.fill(system, store, count, **order)
                store.settle()
                found = self.drain(
                    system, store, count, concurrency=concurrency, processes=processes, **order
                )
            rate = self.rates[rated] = self.rates[similar] = found.rate
            if found.records.seconds > self.size.seconds / 2 or count == self.size.most:
                break
        return found

    def drain(
        self,
        system: System,
        store: Store,
        count: int,
        *,
        seconds: float | None = None,
        **order: Any,
    ) -> Drained:
        """Run the jobs numbered from zero that are in the store, each exactly once."""
        before = store.counters()
        with self.workers(system, store, **order) as working:
            working.finish(count, seconds or self.size.patience)
        return Drained(
            records=working.records,
            ready_at=working.ready_at,
            cpu=working.cpu,
            memory=working.memory,
            cost=store.cost(before),
        )

    @contextmanager
    def workers(
        self, system: System, store: Store, *, processes: int = 1, **order: Any
    ) -> Iterator["Working"]:
        """Processes that take jobs, ready; each writes records of its own."""
        with ExitStack() as stack:
            place = stack.enter_context(folder())
            paths = [place / f"records-{index}" for index in range(processes)]
            started = [
                Process(system, "work", {**order, "dsn": store.dsn, "records": str(path)}, place)
                for path in paths
            ]
            for each in started:
                stack.enter_context(each)
            for each in started:
                each.await_ready()
            yield Working(started, paths, time.monotonic())


class Working:
    """Workers that run, and what they have done so far."""

    def __init__(self, processes: list[Process], paths: list[Path], ready_at: float) -> None:
        self.processes = processes
        self.paths = paths
        self.ready_at = ready_at
        self.lines = Lines(paths)
        self.records = Records([])
        self.memory = 0.0

    @property
    def cpu(self) -> float:
        return sum(each.cpu for each in self.processes)

    def cpu_so_far(self) -> float:
        return sum(each.cpu_so_far() for each in self.processes)

    def finish(self, count: int, seconds: float) -> None:
        """Wait for the jobs numbered from zero, stop, and require that each ran exactly once."""
        self.await_records(count, seconds)
        time.sleep(AFTERWARDS)
        self.stop()
        self.records.require_exact(range(count))

    def await_records(self, count: int, seconds: float) -> None:
        def happened() -> bool:
            for each in self.processes:
                if not each.alive():
                    raise AdapterFailed(f"{each.name} ended early: {each.said()}")
            return self.lines() >= count

        wait_until(happened, seconds, lambda: f"{self.lines():,} of {count:,} jobs", poll=0.02)

    def stop(self) -> None:
        """End them as their own commands would, and read what they wrote."""
        self.memory = max(each.memory() for each in self.processes)
        for each in self.processes:
            each.terminate()
        for each in self.processes:
            each.stop()
        self.records = Records.read(self.paths)


def enqueued(system: System, answer: Mapping[str, float] | None) -> Enqueued:
    if answer is None:
        raise AdapterFailed(f"{system.name} enqueue printed no result")
    return Enqueued(int(answer["count"]), answer["seconds"], answer.get("memory", 0.0))


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="oban-bench-") as name:
        yield Path(name)
