"""Threads for `def` workers: daemons of our own, so that one that hangs cannot hold the exit."""

import asyncio
import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

#: Seconds after which a thread without work ends.
IDLE: Final = 10.0


@dataclass(frozen=True, slots=True)
class Returned:
    """What a function on a thread came to: a value, or any exception at all.

    An exception travels as a value, since a future refuses StopIteration and asyncio lets
    SystemExit end the loop.
    """

    value: Any = None
    error: BaseException | None = None


Work = tuple[contextvars.Context, Callable[[], Any], "asyncio.Future[Returned]"]


class Threads:
    """Starts a thread only when none is idle; whoever submits bounds how many run at once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.work: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self.guard = threading.Lock()
        self.idle_count = 0

    def submit(self, function: Callable[[], Any]) -> "asyncio.Future[Returned]":
        """Run `function` with the caller's context variables; await the future on this loop."""
        future: asyncio.Future[Returned] = asyncio.get_running_loop().create_future()
        with self.guard:
            needs_thread = self.idle_count == 0
            if not needs_thread:
                self.idle_count -= 1
        if needs_thread:
            # First: where no thread can be started, nothing may wait to be run after all.
            threading.Thread(target=self.serve, name=self.name, daemon=True).start()
        self.work.put((contextvars.copy_context(), function, future))
        return future

    def serve(self) -> None:
        while True:
            try:
                context, function, future = self.work.get(timeout=IDLE)
            except queue.Empty:
                with self.guard:
                    if self.idle_count:
                        self.idle_count -= 1
                        return
                continue  # work was promised to this thread just now
            try:
                returned = Returned(context.run(function))
            except BaseException as error:  # noqa: BLE001  # a job's failure of any kind is its own
                returned = Returned(error=error)
            del context, function
            with self.guard:
                self.idle_count += 1
            deliver(future, returned)
            del future, returned


def deliver(future: "asyncio.Future[Returned]", returned: Returned) -> None:
    def resolve() -> None:
        if not future.done():
            future.set_result(returned)

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        future.get_loop().call_soon_threadsafe(resolve)
