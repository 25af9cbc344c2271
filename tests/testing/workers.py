"""Workers whose jobs the tests enqueue, and the names of those that ran."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final

from oban import Cancel, Discard, Job, Record, Snooze, Worker, job, worker

#: What ran, in order; emptied before each test.
RAN: Final[list[Any]] = []


@worker(queue="mailers", max_attempts=3)
class Mailer(Worker):
    async def process(self, job: Job) -> str:
        RAN.append(job.args)
        return f"sent to {job.args['to']}"


@job()
def add(left: int, right: int = 1) -> int:
    RAN.append(threading.current_thread().name)
    return left + right


@job()
async def step(name: str) -> None:
    RAN.append(name)


class Broken(Exception):
    pass


@worker(max_attempts=2)
class Failing(Worker):
    async def process(self, job: Job) -> None:
        RAN.append("failing")
        raise Broken("no good")

    def backoff(self, job: Job) -> int:
        return 0


ENDS: Final[dict[str, Callable[[], Any]]] = {
    "cancel": lambda: Cancel("not wanted"),
    "discard": lambda: Discard("hopeless"),
    "record": lambda: Record({"sent": 3}),
    "snooze": lambda: Snooze(60, meta={"because": "busy"}),
    "text": lambda: "done",
}


@job(max_attempts=5)
async def end(how: str) -> Any:
    RAN.append(how)
    return ENDS[how]()


@job()
async def fan_out(names: list[str]) -> None:
    RAN.append("fan out")
    for name in names:
        await step.enqueue(name)


@job()
def fan_out_in_a_thread(names: list[str]) -> None:
    RAN.append("fan out")
    for name in names:
        step.enqueue_sync(name)


@worker()
class Changing(Worker):
    async def process(self, job: Job) -> None:
        job.args["list"].append("changed")
        job.meta["changed"] = True


@job()
async def wait_forever() -> None:
    RAN.append("waiting")
    await asyncio.Event().wait()
