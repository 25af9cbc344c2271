"""Where a job that may kill its process runs: alone, so that no other is blamed for it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from oban.job import Job
from oban.outcome import Ack
from oban.running.executor import acknowledge, count, given_back, never_begun
from oban.running.run import Run, StopReason
from oban.states import JobState

#: From so many crashes on a job runs alone.
SUSPICIOUS: Final = 2
#: Seconds that others may take to finish, while nothing new is claimed, until it is put off.
PATIENCE: Final = 15.0
#: Seconds that it is put off for, and how often before it runs in company after all.
POSTPONED: Final = 60.0
MOST_POSTPONED: Final = 10


class Solitude:
    """Shared by the queues of a process: while a suspect waits or runs they claim nothing."""

    def __init__(
        self,
        announce: Callable[[], Awaitable[None]],
        reopen: Callable[[], None],
        patience: float = PATIENCE,
    ) -> None:
        #: Has the others know what runs here, before it begins.
        self.announce = announce
        self.reopen = reopen
        self.patience = patience
        self.suspects: set[Run] = set()
        self.company: set[Run] = set()
        self.empty = asyncio.Event()
        self.empty.set()
        self.alone = asyncio.Lock()

    @property
    def closed(self) -> bool:
        return bool(self.suspects)

    @property
    def suspect(self) -> int | None:
        """A job that runs alone, or waits to."""
        return next((run.job.id for run in list(self.suspects)), None)

    def admit(self, run: Run) -> bool:
        """Take note of a run at once: its task may begin later than those of others.

        Return whether it is to run alone.
        """
        if is_suspect(run.job):
            run.began = False
            self.suspects.add(run)
            return True
        self.company.add(run)
        self.empty.clear()
        return False

    def release(self, run: Run) -> None:
        """Its task has ended, or never began."""
        self.company.discard(run)
        if not self.company:
            self.empty.set()
        if run in self.suspects:
            self.suspects.discard(run)
            if not self.suspects:
                self.reopen()

    async def execute(self, run: Run, execute: Callable[[Run], Awaitable[Ack]]) -> Ack:
        """Run it once nothing else runs."""
        try:
            async with self.alone:
                try:
                    async with asyncio.timeout(self.patience):
                        await self.empty.wait()
                except TimeoutError:
                    return put_off(run.job)
                run.began = True
                await self.announce()
                return await execute(run)
        except asyncio.CancelledError:
            if run.is_abandoned():
                raise
            return stopped_waiting(run)


def is_suspect(job: Job) -> bool:
    """Whether it is to run alone."""
    return count(job, "crashes") >= SUSPICIOUS and count(job, "postponed") < MOST_POSTPONED


def put_off(job: Job) -> Ack:
    return acknowledge(
        job,
        JobState.SCHEDULED,
        delay=POSTPONED,
        meta={"postponed": count(job, "postponed") + 1},
        counted=False,
    )


def stopped_waiting(run: Run) -> Ack:
    """The executor turns a cancellation into an Ack itself: this one came before it had the job."""
    if run.stop is StopReason.CANCELLED:
        return never_begun(run.job)
    return given_back(run.job)
