"""Workers that run in child processes, in a module that a child imports quickly."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from oban import Cancel, Discard, Job, RateLimited, Record, Snooze, Worker, current_job, job, worker


@worker(queue="children", executor="process", max_attempts=2)
class Child(Worker):
    def process(self, job: Job) -> Any:
        return DO[job.args["do"]](job)


@worker(queue="children", executor="process")
class Awaiting(Worker):
    async def process(self, job: Job) -> Any:
        await asyncio.sleep(0)
        return Record([os.getpid(), seen()])


@worker(queue="children", executor="process", encrypted=True)
class Hidden(Worker):
    def process(self, job: Job) -> Record:
        return Record(len(job.args["card"]))


class Throttled(RuntimeError): ...


@worker(queue="children", executor="process", discard_on=LookupError, snooze_on={Throttled: 60})
class Judged(Worker):
    def before_process(self, job: Job) -> None:
        self.pid = os.getpid()

    def process(self, job: Job) -> Any:
        if job.args["raise"] == "key":
            raise KeyError("gone")
        if job.args["raise"] == "throttled":
            raise Throttled
        if job.args["raise"] == "limited":
            raise RateLimited(60)
        return Record(self.pid == os.getpid())


@job(queue="children", executor="process")
def whoami(name: str) -> Record:
    return Record([name, os.getpid(), seen()])


def seen() -> int | None:
    job = current_job()
    return None if job is None else job.id


def wait(job: Job) -> None:
    """Say that it runs, by a file, and go on for long."""
    Path(job.args["file"]).write_text(str(os.getpid()))
    time.sleep(60)


def fail(job: Job) -> None:
    raise ValueError("in the child")


def use(job: Job) -> Record:
    return Record([os.getpid(), job.resources["model"]])


def use_missing(job: Job) -> Any:
    return job.resources[job.args["name"]]


async def awaited() -> Record:
    await asyncio.sleep(0)
    return Record("awaited")


DO: dict[str, Any] = {
    "pid": lambda job: Record(os.getpid()),
    "fields": lambda job: Record([job.attempt, job.queue, str(job.state), job.meta["a"]]),
    "snooze": lambda job: Snooze(30, {"why": "busy"}),
    "cancel": lambda job: Cancel({"code": 7}),
    "discard": lambda job: Discard(None),
    "object": lambda job: object(),
    "fail": fail,
    "await": lambda job: awaited(),
    "exit": lambda job: os._exit(job.args["code"]),
    "leave": lambda job: exit(3),
    "kill": lambda job: os.kill(os.getpid(), signal.SIGKILL),
    "wait": wait,
    "use": use,
    "use missing": use_missing,
}


@contextmanager
def model() -> Iterator[str]:
    """Note in a file when it is opened and closed, and where."""
    notes = Path(os.environ["OBAN_TEST_NOTES"])
    with notes.open("a") as file:
        file.write(f"open {os.getpid()}\n")
    yield "a model"
    with notes.open("a") as file:
        file.write(f"close {os.getpid()}\n")


@asynccontextmanager
async def session() -> AsyncIterator[str]:
    yield "a session"


@contextmanager
def broken() -> Iterator[str]:
    yield str(Path("/no/such/model").read_text())
