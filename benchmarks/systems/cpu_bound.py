"""Work that keeps a core busy, in child processes of Oban and in a bare pool, one after the other.

`python cpu_bound.py DSN COUNT CHILDREN`, where the tables are there. Prints how many jobs a second
each ran, as JSON. Each job leaves a line, and each is to have left one.
"""

import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

from pebble import ProcessPool

from oban import Job, Oban, Worker, telemetry, worker

#: Takes about 20 milliseconds.
STEPS: Final = 500_000


def work(number: int, records: str) -> None:
    total = 0
    for step in range(STEPS):
        total += step * step
    file = os.open(records, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{number} {total}\n".encode())
    os.close(file)


@worker(queue="cpu", executor="process")
class Busy(Worker):
    def process(self, job: Job) -> None:
        work(job.args["n"], job.args["records"])


def require_each_once(records: str, count: int) -> None:
    found = Counter(int(line.split()[0]) for line in Path(records).read_text().splitlines())
    if found != Counter(range(count)):
        raise SystemExit(f"void: not each of {count} ran once: {found.most_common(3)}")


def in_pool(records: str, count: int, children: int) -> float:
    with ProcessPool(children, context=multiprocessing.get_context("spawn")) as pool:
        for warm in [pool.schedule(os.getpid) for _ in range(children * 4)]:
            warm.result()  # it is up
        began = time.perf_counter()
        for future in [pool.schedule(work, (number, records)) for number in range(count)]:
            future.result()
        return count / (time.perf_counter() - began)


async def in_oban(dsn: str, records: str, count: int, children: int) -> float:
    ended = 0
    began = time.perf_counter()
    done = asyncio.Event()
    # More than there are children, so that none waits for a claim.
    queues = {"cpu": children * 4}
    warm = children * 8

    def note(name: str, metadata: telemetry.Metadata) -> None:
        nonlocal ended, began
        ended += 1
        if ended == warm:
            began = time.perf_counter()
        elif ended == warm + count:
            done.set()

    telemetry.attach("bench", ["oban.job.stop"], note)
    async with Oban(pool=dsn, queues=queues, process_pool_size=children) as oban:
        first = [Busy.new({"n": n, "records": f"{records}-warm"}) for n in range(warm)]
        await oban.enqueue_many(first)
        await oban.enqueue_many([Busy.new({"n": n, "records": records}) for n in range(count)])
        await done.wait()
        return count / (time.perf_counter() - began)


def main() -> None:
    dsn, count, children = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rates = {}
    with tempfile.TemporaryDirectory(prefix="oban-bench-") as folder:
        for name in ("pool", "oban"):
            records = str(Path(folder) / name)
            if name == "pool":
                rates[name] = in_pool(records, count, children)
            else:
                rates[name] = asyncio.run(in_oban(dsn, records, count, children))
            require_each_once(records, count)
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
