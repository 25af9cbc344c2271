"""What a queue has in hand: the jobs that run in its slots, and those that wait for one."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from oban import telemetry
from oban.job import Job
from oban.limits import QueueLimits
from oban.options import QueueOptions
from oban.outcome import Ack, AttemptKey
from oban.running.ahead import Ahead
from oban.running.executor import Executor, Failure, failed, given_back, never_begun
from oban.running.run import Run, StopReason
from oban.running.solitude import Solitude

#: How exactly an event loop keeps time, in seconds, at worst.
CLOCK: Final = 0.01


class Slots:
    """Jobs come by `put`, and each leaves as an Ack, whatever becomes of it."""

    def __init__(
        self,
        queue: str,
        options: QueueOptions,
        executor: Executor,
        solitude: Solitude,
        *,
        cancel_grace_period: float,
        is_resting: Callable[[], bool],
        ended: Callable[[Ack], None],
    ) -> None:
        self.queue = queue
        self.limit = options.limit
        self.executor = executor
        self.solitude = solitude
        self.cancel_grace_period = cancel_grace_period
        #: Whether nothing new is to be started.
        self.is_resting = is_resting
        #: Is told how each attempt ended, or that it was given back.
        self.ended = ended
        self.runs: dict[AttemptKey, Run] = {}
        self.claim_ahead = options.claim_ahead
        self.ahead = Ahead(options.claim_ahead)
        self.limit_ahead(options.limits)
        #: The next look at those that wait; there is one to come as long as any does.
        self.look: asyncio.TimerHandle | None = None
        #: Set while nothing runs.
        self.idle = asyncio.Event()
        self.idle.set()
        #: The task that starts jobs and outlives them; see `Run.owner`.
        self.owner: asyncio.Task[None] | None = None

    def limit_ahead(self, limits: QueueLimits, *, is_rated: bool = False) -> None:
        """What waits here has started as far as a rate is concerned, and shall not start later."""
        self.ahead.bound(0 if is_rated or limits.allowed is not None else self.claim_ahead)

    def in_hand(self) -> list[AttemptKey]:
        return [*self.runs, *self.ahead.keys()]

    def run_of(self, job_id: int) -> Run | None:
        return next((run for key, run in self.runs.items() if key[0] == job_id), None)

    def running(self) -> list[int]:
        """The jobs that run; a copy, since threads that watch this process ask as well."""
        return sorted(identity for identity, _ in list(self.runs))

    def begun(self) -> list[int | None]:
        """Of these, whose code may have begun."""
        return [run.job.id for run in self.runs.values() if run.began]

    def are_free(self) -> bool:
        return not self.ahead and len(self.runs) < self.limit

    def demand(self) -> int:
        """How many more jobs to claim: for the free slots, and for those that will be free."""
        if self.is_resting() or self.solitude.closed:
            return 0
        in_hand = len(self.runs) + len(self.ahead)
        return max(0, self.limit + self.ahead.room(self.limit) - in_hand)

    def put(self, claimed: Sequence[Job]) -> None:
        """Start what was claimed, in order, and keep the rest for the slots to come."""
        self.ahead.add(claimed, time.monotonic())
        self.fill()
        if self.ahead.is_careful:
            self.give_back(self.ahead.take_unwilling())
        self.look_later()

    def fill(self) -> None:
        """Start what waits, as far as slots are free."""
        if self.is_resting():  # commanded while the claim was under way
            self.give_back_waiting()
        while self.ahead and len(self.runs) < self.limit:
            job, _ = self.ahead.waiting.popleft()
            if self.solitude.closed:  # even another suspect is for a process that is free
                self.ended(given_back(job))
            else:
                self.start(job)

    def look_later(self) -> None:
        if self.ahead and self.look is None:
            delay = self.ahead.overdue_in(time.monotonic())
            loop = asyncio.get_running_loop()
            self.look = loop.call_later(max(delay, CLOCK), self.look_at_waiting)

    def look_at_waiting(self) -> None:
        self.look = None
        self.give_back_overdue()
        self.look_later()  # others are first by now, or the timer came a moment early

    def give_back_overdue(self) -> None:
        if self.ahead.is_overdue(time.monotonic()):
            self.give_back_waiting()

    def give_back_waiting(self) -> None:
        """Let others run what was claimed ahead."""
        self.give_back(self.ahead.take_all())

    def give_back(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self.ended(given_back(job))

    def start(self, job: Job) -> None:
        run = Run(job, owner=self.owner, insist=self.force_later)
        self.runs[run.key] = run
        self.idle.clear()
        if self.solitude.admit(run):
            work = self.solitude.execute(run, self.executor.execute)
        else:
            work = self.executor.execute(run)
        loop = asyncio.get_running_loop()
        run.task = loop.create_task(work, name=f"oban job {job.id}")
        run.task.add_done_callback(partial(self.finish, run))

    def finish(self, run: Run, task: asyncio.Task[Ack]) -> None:
        if task.cancelled() and run.threaded:
            # The program ends and the thread's code runs on: it keeps slot and row, and the row is
            # left to the rescue.
            return
        self.solitude.release(run)
        del self.runs[run.key]
        if task.cancelled():  # the program ends, and this code with it
            ack = given_back(run.job)
        else:
            error = task.exception()
            ack = task.result() if error is None else failed(run.job, Failure(error))
        self.ended(ack)
        self.ahead.ended_count += 1
        self.give_back_overdue()
        self.fill()
        if not self.runs:
            self.idle.set()

    # Stopping

    def stop(self, gone: Iterable[AttemptKey]) -> None:
        """Let go of attempts that are no longer ours to run: ask those that run to stop."""
        for key in gone:
            if run := self.runs.get(key):
                if run.stop is None:
                    run.ask_to_stop(StopReason.CANCELLED)
                    self.force_later(run)
            elif job := self.ahead.take_out(key):
                self.ended(never_begun(job))

    def force_later(self, run: Run) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        return loop.call_later(self.cancel_grace_period, self.force, run)

    def force(self, run: Run) -> None:
        """The grace is over. A thread, or code that swallows cancellation, keeps its slot."""
        if self.runs.get(run.key) is not run:
            return
        if run.force() and run.forced_count == 1:
            self.force_later(run)
        else:
            telemetry.execute("oban.producer.stuck", {"queue": self.queue, "job": run.job})

    def shut_down(self) -> None:
        """End what still runs, to be given back."""
        for run in list(self.runs.values()):
            run.ask_to_stop(StopReason.SHUTDOWN)
            run.force()

    async def wait_idle(self, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self.idle.wait()
        except TimeoutError:
            pass
