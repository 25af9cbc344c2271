"""One attempt in flight: the job, the code that runs for it, and how it is asked to stop."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from oban.job import Job
from oban.outcome import Ack, AttemptKey


class StopReason(Enum):
    #: Somebody cancelled the job: its row says so already.
    CANCELLED = auto()
    #: This node stops: the job is given back and runs again elsewhere.
    SHUTDOWN = auto()


@dataclass(slots=True, eq=False)
class Run:
    job: Job
    stop: StopReason | None = None
    #: Whether its code may have begun.
    began: bool = True
    #: Whether its code is on a thread, which cannot be stopped from outside.
    threaded: bool = False
    #: Which thread that is.
    thread_id: int | None = None
    #: Whether it was to end while it was on a thread: what comes after that does not begin.
    overdue: bool = False
    #: The task that started it and outlives it, None where whoever runs the job awaits it himself.
    owner: asyncio.Task[None] | None = None
    #: Ends code that runs in a process of its own.
    kill: Callable[[], None] | None = None
    #: Is told that the code was made to end, to see whether it does, until what it returns is
    #: cancelled.
    insist: Callable[["Run"], asyncio.TimerHandle] | None = None
    #: How often that was done.
    forced_count: int = 0
    #: What its code is given where that is not the job itself: one with its arguments decrypted.
    opened: Job | None = None
    task: asyncio.Task[Ack] = field(init=False)

    @property
    def given(self) -> Job:
        return self.job if self.opened is None else self.opened

    @property
    def key(self) -> AttemptKey:
        assert self.job.id is not None
        return (self.job.id, self.job.attempt)

    def is_abandoned(self) -> bool:
        """Whether a cancellation nobody asked for through `stop` comes from the end of the program.

        It takes the owner along. One that does not is the job's own doing, or a stranger's, and an
        ordinary failure.
        """
        if self.stop is not None:
            return False
        task = asyncio.current_task() if self.owner is None else self.owner
        return task is None or task.done() or task.cancelling() > 0

    def ask_to_stop(self, reason: StopReason) -> None:
        """Let `job.cancelled()` say so; the code may look at it, or not."""
        self.stop = reason
        self.job.stop_requested = True
        self.given.stop_requested = True

    def force(self) -> bool:
        """End the code if that is possible, and say so."""
        if self.threaded or self.task.done():
            self.overdue = self.threaded
            return False
        self.end_code(self.task)
        return True

    def end_code(self, task: "asyncio.Task[Any]") -> None:
        """Kill the process it runs in, or cancel the task."""
        self.forced_count += 1
        if self.kill is not None:
            self.kill()
        else:
            task.cancel()
