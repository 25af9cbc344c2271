"""Scenarios about what may run: unique jobs and limits, under races and deaths."""

import asyncio
import math
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from tests.chaos.cluster import Cluster, together
from tests.chaos.node import Limited, Metered, Sharing
from tests.chaos.scenarios import SCENARIOS, scenario
from tests.chaos.server import Server

from oban import Oban

__all__ = ["SCENARIOS"]

#: Keys of which two jobs are there that have not ended, in one moment.
TWINS = """
select meta ->> 'uniq_key', count(*) from oban_jobs
where state not in ('completed', 'cancelled', 'discarded') or stopping_at is not null
group by 1 having count(*) > 1
"""


@scenario("16 processes that race for 1,000 unique keys")
async def racing(cluster: Cluster, server: Server, scale: float) -> None:
    pruner = {"max_age": 2, "interval": 0.5}
    nodes = await together(cluster.start(pruner=pruner) for _ in range(2))
    seconds = 12 * scale
    writers = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.chaos.writer", cluster.dsn, str(seconds)),
            str(cluster.chance.random()),
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(16)
    ]
    done = asyncio.gather(*(writer.communicate() for writer in writers))
    while not done.done():
        twins = await asyncio.to_thread(cluster.query, TWINS)
        cluster.expect(not twins, f"two live jobs of a key: {twins}")
        await asyncio.sleep(0.05)
    said = [list(map(int, out.split())) for out, _ in await done]
    cluster.expect(all(len(each) == 3 for each in said), f"a writer failed: {said}")
    inserted, conflicted, gave_way = map(sum, zip(*said, strict=True))
    await cluster.settle()
    cluster.report.enqueued = inserted
    began, overlaps = overlapping(cluster.files)
    cluster.report.doubled = len(overlaps)
    cluster.expect(not overlaps, f"jobs of one key ran at the same time: {overlaps[:3]}")
    cluster.expect(conflicted > inserted / 10, "hardly anybody was in conflict")
    cluster.note(f"{conflicted} were there already, {gave_way} gave way, {began} runs")
    await cluster.terminate(*nodes)


@dataclass
class KeyedRun:
    began_at: float
    job_id: str
    ended_at: float = math.inf


def overlapping(files: list[Path]) -> tuple[int, list[tuple[str, str, str]]]:
    """How many runs were noted, and which jobs of one key ran at the same time."""
    runs: dict[str, list[KeyedRun]] = {}
    for file in files:
        for line in file.read_text().splitlines():
            kind, key, job_id, at = line.split()
            if kind == "B":
                runs.setdefault(key, []).append(KeyedRun(float(at), job_id))
            else:
                last = next(run for run in reversed(runs[key]) if run.job_id == job_id)
                last.ended_at = float(at)
    found = []
    for key, spans in runs.items():
        spans.sort(key=lambda run: run.began_at)
        for one, other in pairwise(spans):
            if other.began_at < one.ended_at:
                found.append((key, one.job_id, other.job_id))
    return sum(map(len, runs.values())), found


TENANTS: Final = 100
AT_ONCE: Final = 2
ALLOWED: Final = 6
PERIOD: Final = 2.0
SHARED: Final = 5
BY_TENANT: Final = {"by": {"args": "tenant"}}
LIMITED: Final[dict[str, Any]] = {
    "queues": {
        "limited": {"limit": 60, "global_limit": AT_ONCE, "partition": BY_TENANT},
        "metered": {
            "limit": 60,
            "rate_limit": {"allowed": ALLOWED, "period": PERIOD},
            "partition": BY_TENANT,
        },
        "left": 20,
        "right": 20,
    },
    "limits": {"api": SHARED},
}


@scenario("limits of 100 partitions, of rates and of several queues, and SIGKILLs")
async def limited(cluster: Cluster, server: Server, scale: float) -> None:
    await together(cluster.start(**LIMITED) for _ in range(4))
    calm, deadly = 8.0 * scale, 6.0 * scale
    count = await enqueue_limited(cluster, calm + deadly)
    began = time.monotonic()
    await asyncio.sleep(calm)
    calmed = time.monotonic()
    while time.monotonic() < calmed + deadly:
        cluster.kill(cluster.chance.choice(cluster.living()))
        await cluster.start(**LIMITED)
        await asyncio.sleep(cluster.chance.uniform(0.3, 0.8))
    await asyncio.sleep(3)  # until the dead are found, and their jobs run again
    await cluster.terminate(*cluster.living())
    cluster.report.enqueued = count
    spans = spans_of(cluster.files, cluster.died_at)
    for gate, most in (("limited", AT_ONCE), ("sharing", SHARED)):
        peaks = [most_at_once(own) for key, own in spans.items() if key.startswith(gate)]
        excess = [peak for peak in peaks if peak > most]
        cluster.report.doubled += len(excess)
        cluster.expect(not excess, f"{gate}: {excess} ran at once, {most} may")
        cluster.expect(max(peaks) == most, f"{gate}: the limit was never reached")
    used = []
    for own in (own for key, own in spans.items() if key.startswith("metered")):
        starts = sorted(span.began_at for span in own)
        peak = most_within(starts, PERIOD)
        cluster.expect(peak <= ALLOWED, f"metered: {peak} started within {PERIOD} s")
        steady = [at for at in starts if began + PERIOD <= at < calmed]
        used.append(len(steady) / (calmed - began - PERIOD) * PERIOD / ALLOWED)
    share = sum(used) / TENANTS
    cluster.expect(share >= 0.9, f"only {share:.3f} of the rate was used")
    cluster.note(f"{share:.3f} of the rate was used before the first SIGKILL")
    runs = sum(map(len, spans.values()))
    cluster.note(f"{runs} runs, {len(cluster.died_at) - 4} processes killed")


async def enqueue_limited(cluster: Cluster, seconds: float) -> int:
    """More than can run meanwhile, of every kind and tenant."""
    per_tenant = range(int(ALLOWED * (seconds / PERIOD + 4)))
    jobs = [
        kind.new({"tenant": tenant, "seconds": seconds})
        for kind, seconds in ((Metered, 0.0), (Limited, 0.4))
        for _ in per_tenant
        for tenant in range(TENANTS)
    ]
    jobs += [
        Sharing.new({"tenant": 0, "seconds": 0.05}, queue=queue)
        for _ in range(int(100 * seconds))
        for queue in ("left", "right")
    ]
    async with Oban(pool=cluster.dsn, name="chaos client") as client:
        await client.enqueue_many(jobs)
    return len(jobs)


@dataclass(slots=True)
class Span:
    began_at: float
    ended_at: float


def spans_of(files: list[Path], died_at: dict[int, float]) -> dict[str, list[Span]]:
    """The runs by what limits them; one whose process died ended with it."""
    open_spans: dict[tuple[str, str], Span] = {}
    found: dict[str, list[Span]] = defaultdict(list)
    for file in files:
        for line in file.read_text().splitlines():
            kind, gate, run, pid, at = line.split()
            if kind == "B":
                span = Span(float(at), died_at.get(int(pid), math.inf))
                open_spans[gate, run] = span
                found[gate].append(span)
            else:
                open_spans[gate, run].ended_at = float(at)
    return found


def most_at_once(spans: list[Span]) -> int:
    changes = sorted(
        [(span.began_at, 1) for span in spans] + [(span.ended_at, -1) for span in spans]
    )
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    return most


def most_within(starts: list[float], seconds: float) -> int:
    """The most starts in any so many seconds, wherever they begin."""
    first = most = 0
    for last, at in enumerate(starts):
        while at - starts[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most
