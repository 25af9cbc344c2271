"""Jobs in child processes that do what nobody should, each in a way of its own."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from oban import Job, Record, Worker, worker


@worker(queue="hostile", executor="process", max_attempts=2)
class Hostile(Worker):
    def process(self, job: Job) -> Any:
        return DO[job.args["do"]](job)


def note(job: Job, text: object) -> None:
    """Say something outside of the queue's tables, all of it at once."""
    file = Path(job.args["file"])
    part = file.with_suffix(".part")
    part.write_text(str(text))
    part.rename(file)


def fork_and_return(_: Job) -> Any:
    """Two processes come back, of which one is a copy."""
    return Record(["forked", os.fork() == 0])


def fork_and_exit(_: Job) -> Any:
    if os.fork() == 0:
        sys.exit(0)
    return Record("the original")


def fork_and_die(_: Job) -> None:
    """The copy keeps all files open that would tell of the death."""
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    os._exit(5)


def fork_and_terminate(_: Job) -> Any:
    """The copy has hardly begun when it is told to end."""
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    os.kill(pid, signal.SIGTERM)
    return Record(-os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def close_files(_: Job) -> None:
    os.closerange(3, 4096)


def start_program(job: Job) -> None:
    program = subprocess.Popen(["sleep", "60"])
    note(job, program.pid)
    program.wait()


def hold_interpreter(job: Job) -> None:
    """Compute in C, where no other thread of the process has its turn."""
    note(job, os.getpid())
    sum(range(10**12))


def use_pool(_: Job) -> Any:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return Record(pool.map(abs, [-1, -2]))


def sleep(job: Job) -> Any:
    note(job, os.getpid())
    time.sleep(job.args["for"])
    return Record(os.getpid())


def leave_thread(_: Job) -> Any:
    import threading

    threading.Thread(target=time.sleep, args=(60,)).start()
    return Record(os.getpid())


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt

    def __reduce__(self) -> Any:
        raise SystemExit(7)


def raise_unspeakable(_: Job) -> None:
    raise Unspeakable


def raise_at_length(_: Job) -> None:
    raise ValueError("z" * 5_000_000)


def exhaust_memory(_: Job) -> None:
    raise MemoryError


def recurse(job: Job) -> None:
    recurse(job)


async def leave_tasks() -> Any:
    asyncio.create_task(asyncio.sleep(60))  # noqa: RUF006  # to be left behind
    return Record(os.getpid())


DO: dict[str, Any] = {
    "nothing": lambda job: Record(os.getpid()),
    "fork and return": fork_and_return,
    "fork and exit": fork_and_exit,
    "fork and die": fork_and_die,
    "fork and terminate": fork_and_terminate,
    "close files": close_files,
    "start a program": start_program,
    "hold the interpreter": hold_interpreter,
    "use a pool": use_pool,
    "sleep": sleep,
    "leave a thread": leave_thread,
    "leave tasks": lambda job: leave_tasks(),
    "raise what has no text": raise_unspeakable,
    "raise at length": raise_at_length,
    "exhaust memory": exhaust_memory,
    "recurse": recurse,
    "interrupt": lambda job: (_ for _ in ()).throw(KeyboardInterrupt),
}
