"""How long do the dashboard's pages take? `python -m benchmarks.dashboard [--jobs 1000000]`

Server time of every page with that many jobs in the table: with nodes idle, and beside two nodes at
full speed; and how fast those are with a page open and without.
"""

import argparse
import asyncio
import http.client
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Final
from urllib.parse import quote, urlsplit

import psycopg

from benchmarks.server import fresh_server
from oban import Job, Oban, Worker, schema, worker

ROUNDS: Final = 20
#: Seconds of one look at the rate, and looks with a page open and without.
SPAN: Final = 6.0
LOOKS: Final = 4
CONCURRENCY: Final = 50
#: Jobs that are waiting at least while the nodes are at full speed.
WAITING: Final = 20_000
#: What a page that is open asks for every two seconds.
OPEN: Final = ("/jobs", "/series?by=state")
HISTORY: Final = """
insert into oban_jobs (
  state, queue, worker, args, tags, priority, attempt, max_attempts, attempted_by, errors,
  inserted_at, scheduled_at, attempted_at, completed_at, cancelled_at, discarded_at
)
select
  cast(state as oban_job_state), 'queue' || n %% 5, 'app.Worker' || n %% 7,
  jsonb_build_object('user_id', n %% 5000, 'tenant_id', n %% 20),
  case when n %% 10 = 0 then array['nightly'] else '{}' end, n %% 3,
  case when state in ('available', 'scheduled') then 0 else 1 end, 20,
  case when state in ('available', 'scheduled') then '{}' else array['node' || n %% 4, 'x'] end,
  case when state in ('retryable', 'discarded') then jsonb_build_array(
    jsonb_build_object('attempt', 1, 'at', at, 'error', 'Traceback: it failed')
  ) else '[]' end,
  at, case when state in ('scheduled', 'retryable') then at + interval '1 day' else at end,
  case when state not in ('available', 'scheduled') then at end,
  case when state = 'completed' then at + interval '1 second' end,
  case when state = 'cancelled' then at + interval '1 second' end,
  case when state = 'discarded' then at + interval '1 second' end
from (
  select
    n, timezone('UTC', now()) - (%(jobs)s - n) * interval '0.01 second' as at,
    case
      when n %% 1000 = 7 then 'discarded'
      when n %% 1000 = 9 then 'cancelled'
      when n %% 50 = 3 then 'available'
      when n %% 500 = 5 then 'retryable'
      when n %% 200 = 6 then 'scheduled'
      else 'completed'
    end as state
  from generate_series(1, %(jobs)s) as n
) as made
"""


@worker(queue="bench")
class Quick(Worker):
    async def process(self, job: Job) -> None: ...


async def run_node(dsn: str) -> None:
    queues = {"bench": CONCURRENCY}
    async with Oban(pool=dsn, queues=queues, worker_modules=["benchmarks"]):
        print("ready", flush=True)
        await asyncio.sleep(3600)


@contextmanager
def node(dsn: str) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.dashboard", "--node", dsn]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stdout.readline()
        try:
            yield
        finally:
            started.kill()


@contextmanager
def dashboard(dsn: str) -> Iterator[str]:
    """The address of `oban web` in a process of its own."""
    command = [sys.executable, "-m", "oban", "web", "--dsn", dsn, "--port", "0"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stderr=subprocess.PIPE, cwd=folder, text=True) as started,
    ):
        assert started.stderr is not None
        said = started.stderr.readline()
        found = re.search(r"http://\S+", said)
        assert found, said + started.stderr.read()
        try:
            yield found[0].rstrip("/")
        finally:
            started.kill()


class Reader:
    def __init__(self, address: str) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)

    def get(self, path: str) -> float:
        """Seconds until the whole answer is there."""
        began = time.perf_counter()
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        answer.read()
        assert answer.status == http.HTTPStatus.OK, (path, answer.status)
        return time.perf_counter() - began


@dataclass(frozen=True)
class Times:
    seconds: list[float]

    @property
    def p95(self) -> float:
        return quantiles(self.seconds, n=20)[-1]

    def __str__(self) -> str:
        shown = (median(self.seconds), self.p95, max(self.seconds))
        return " ".join(f"{1e3 * each:6.0f}" for each in shown)


def pages(job_id: int) -> list[str]:
    states = ("available", "scheduled", "retryable", "executing", "completed", "discarded")
    searches = ("queue:queue1", "worker:app.Worker3", "args.user_id:77", "tag:nightly since:1h")
    return [
        "/jobs",
        *(f"/jobs?state={state}" for state in states),
        *(f"/jobs?q={quote(search)}" for search in searches),
        *(f"/jobs?state=completed&q={quote(search)}" for search in searches),
        f"/jobs/{job_id}",
        "/queues",
        "/cron",
        "/nodes",
        "/metrics",
        "/series?by=state",
        "/series?by=worker&measure=exec&since=86400",
    ]


def measure(reader: Reader, paths: list[str]) -> dict[str, Times]:
    for path in paths:
        reader.get(path)
    rounds = [{path: reader.get(path) for path in paths} for _ in range(ROUNDS)]
    return {path: Times([each[path] for each in rounds]) for path in paths}


class Feeder(threading.Thread):
    """Keeps jobs waiting, as many as two nodes at full speed never run out of."""

    def __init__(self, dsn: str) -> None:
        super().__init__(daemon=True)
        self.dsn = dsn
        self.ended = threading.Event()

    def run(self) -> None:
        asyncio.run(self.feed())

    async def feed(self) -> None:
        async with Oban(pool=self.dsn, name="feeder") as oban:
            while not self.ended.is_set():
                if waiting(self.dsn) < WAITING:
                    await oban.enqueue_stream(Quick.new() for _ in range(WAITING))
                else:
                    await asyncio.sleep(0.05)


def waiting(dsn: str) -> int:
    query = (
        "select count(*) from (select from oban_jobs where state = 'available' and attempt = 0 "
        "and queue = 'bench' and attempt < max_attempts and lane is null limit 20000) as waiting"
    )
    with psycopg.connect(dsn) as connection:
        return int(connection.execute(query.encode()).fetchone()[0])  # type: ignore[index]


def ended(dsn: str) -> int:
    query = b"select count(*) from oban_jobs where state = 'completed' and queue = 'bench'"
    with psycopg.connect(dsn) as connection:
        return int(connection.execute(query).fetchone()[0])  # type: ignore[index]


def rate(dsn: str, reader: Reader | None) -> float:
    """Jobs a second over a while, in which the reader has a page open if there is one."""
    if reader is not None:
        reader.connection.close()  # the server may have done so: it waits seconds for the next
    before, began = ended(dsn), time.monotonic()
    while time.monotonic() < began + SPAN:
        if reader is not None:
            for path in OPEN:
                reader.get(path)
        time.sleep(2.0 if reader is not None else SPAN / 4)
    return (ended(dsn) - before) / (time.monotonic() - began)


def main(jobs: int) -> None:
    with fresh_server() as dsn:
        asyncio.run(schema.install(dsn))
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(HISTORY.encode(), {"jobs": jobs})
            connection.execute("vacuum analyze oban_jobs")
            job_id = int(connection.execute("select max(id) from oban_jobs").fetchone()[0])  # type: ignore[index]
        with dashboard(dsn) as address, node(dsn), node(dsn):
            reader = Reader(address)
            time.sleep(8)  # what ended before is counted for the metrics
            idle = measure(reader, pages(job_id))
            feeder = Feeder(dsn)
            feeder.start()
            time.sleep(3)
            busy = measure(reader, pages(job_id))
            looks = [(rate(dsn, None), rate(dsn, reader)) for _ in range(LOOKS)]
            feeder.ended.set()
            feeder.join()
    print(f"{jobs:,} jobs; milliseconds: p50, p95 and longest of {ROUNDS}, idle and at full speed")
    for path, times in idle.items():
        print(f"{times} | {busy[path]}   {path}")
    worst = max(idle.values(), key=lambda each: each.p95)
    slowest = max(max(each.seconds) for each in busy.values())
    loaded = max(busy.values(), key=lambda each: each.p95)
    without, beside = (median(each) for each in zip(*looks, strict=True))
    print(f"worst p95 idle {worst.p95 * 1e3:.0f} ms (bound 150)")
    print(f"worst p95 at full speed {loaded.p95 * 1e3:.0f} ms (bound 600)")
    print(f"longest at full speed {slowest:.2f} s (bound 2)")
    print(f"jobs/s with a page open {beside:,.0f}, without {without:,.0f}: "
          f"{beside / without:.2f} (bound 0.9)")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--node", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.node:
        asyncio.run(run_node(given.node))
    else:
        main(given.jobs)
