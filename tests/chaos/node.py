"""One node under fault. `python -m tests.chaos.node DSN NAME RECORDS OPTIONS`

Each job writes a line when it begins and when it ends to a file of its node, in one write: that
survives the death of the process, and needs no database. Prints `ready`, and stops on SIGTERM.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import sys
import time

from oban import Cancel, Job, Oban, Record, Snooze, Worker, telemetry, worker

RECORDS = -1


def note(kind: str, job: Job) -> None:
    line = f"{kind} {job.args['n']} {job.attempt} {os.getpid()} {time.monotonic()}\n"
    os.write(RECORDS, line.encode())


class Noted(Worker):
    def backoff(self, job: Job) -> float:
        return 0.2


@worker()
class Plain(Noted):
    async def process(self, job: Job) -> None:
        note("B", job)
        await asyncio.sleep(job.args.get("seconds", 0))
        note("E", job)


@worker()
class Threaded(Noted):
    def process(self, job: Job) -> None:
        note("B", job)
        time.sleep(job.args.get("seconds", 0))
        note("E", job)


@worker()
class Stubborn(Noted):
    async def process(self, job: Job) -> None:
        note("B", job)
        ends = time.monotonic() + job.args["seconds"]
        while time.monotonic() < ends:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(ends - time.monotonic())
        note("E", job)


@worker()
class Blocking(Noted):
    """Blocks the event loop."""

    async def process(self, job: Job) -> None:
        note("B", job)
        time.sleep(job.args["seconds"])
        note("E", job)


@worker()
class Holding(Noted):
    """Holds the interpreter's lock: no thread of the process can run."""

    async def process(self, job: Job) -> None:
        note("B", job)
        ends = time.monotonic() + job.args["seconds"]
        length = 22
        while time.monotonic() < ends and length < 40:
            began = time.monotonic()
            re.match(r"(a+)+$", "a" * length + "b")
            length += 1 if time.monotonic() - began < job.args["seconds"] / 2 else 40
        note("E", job)


@worker()
class Wall(Noted):
    """Records the time that its process takes it to be."""

    async def process(self, job: Job) -> Record:
        note("B", job)
        note("E", job)
        return Record(time.time())


@worker(unique={"keys": ["key"], "group": "incomplete"})
class Keyed(Noted):
    """Ends in every way there is. Notes its key in the place of a number, and which job it is."""

    async def process(self, job: Job) -> Snooze | Cancel | None:
        for kind in "BE":
            line = f"{kind} {job.args['key']} {job.id} {time.monotonic()}\n"
            os.write(RECORDS, line.encode())
            if kind == "B":
                await asyncio.sleep(random.uniform(0, 0.02))  # not for secrets
        match random.randrange(10):
            case 0:
                raise RuntimeError("tried again")
            case 1:
                return Snooze(0.1)
            case 2:
                return Cancel("not any more")
        return None


class InGate(Noted):
    """Notes in the place of a number what limits it, and which run it is."""

    async def process(self, job: Job) -> None:
        gate = type(self).__name__.lower()
        for kind in "BE":
            run = f"{job.id}/{job.attempt}"
            line = f"{kind} {gate}-{job.args['tenant']} {run} {os.getpid()} {time.monotonic()}\n"
            os.write(RECORDS, line.encode())
            if kind == "B":
                await asyncio.sleep(job.args["seconds"])


@worker(queue="limited")
class Limited(InGate):
    pass


@worker(queue="metered")
class Metered(InGate):
    pass


@worker(limits=["api"])
class Sharing(InGate):
    pass


@worker()
class Killing(Noted):
    """Ends its process, as one does that exhausts the memory."""

    async def process(self, job: Job) -> None:
        note("B", job)
        await asyncio.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)


def report(name: str, metadata: telemetry.Metadata) -> None:
    shown = {key: value for key, value in metadata.items() if key not in ("traceback", "job")}
    print(name, json.dumps(shown, default=str), flush=True)


async def main(dsn: str, name: str, options: dict[str, object]) -> None:
    told = ["oban.producer.stale", "oban.refresher.blocked", "oban.refresher.late"]
    telemetry.attach("chaos", [*told, "oban.lifeline.rescue.stop", "oban.signals.deaf"], report)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings: dict[str, object] = {"worker_modules": ["tests.chaos.node"], **options}
    async with Oban(pool=dsn, node=name, **settings) as oban:  # type: ignore[arg-type]
        oban.exiting = True  # as `oban start` does: the process ends right after
        print("ready", flush=True)
        await stop.wait()
    print("stopped", flush=True)
    os._exit(0)


if __name__ == "__main__":
    # Jobs are found under the module's own name.
    from tests.chaos import node

    node.RECORDS = os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    asyncio.run(node.main(sys.argv[1], sys.argv[2], json.loads(sys.argv[4])))
