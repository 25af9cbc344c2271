"""Claiming ahead: jobs that are claimed and wait here for a slot that is free in a moment.

When jobs are short a round trip takes longer than they do, and a queue that claims for its free
slots alone waits most of the time. So it also claims what it will start within the next `WINDOW`
seconds, by the rate at which its jobs have just ended. A job that takes longer than that is never
claimed ahead: the rate is then too small for one.

Should the process die, nobody can tell which of these had begun, and their attempts count. So a job
that is at its last attempt, or was in the hands of a process that died, is never kept waiting, and
while there are such jobs nothing is claimed ahead.
"""

from collections import deque
from collections.abc import Sequence
from itertools import islice, takewhile
from typing import Final, Literal

from oban.job import Job
from oban.outcome import AttemptKey
from oban.running.executor import count

#: What is claimed ahead starts within so many seconds, as far as anybody can tell.
WINDOW: Final = 0.05
#: After so many it goes back: jobs have become slow, or the event loop was blocked.
PATIENCE: Final = 0.2
#: Jobs that wait at most, where `claim_ahead` names no smaller bound.
MOST: Final = 500
#: Seconds over which a rate is measured at least.
SPAN: Final = 0.004


class Ahead:
    """The jobs that wait, in the order they start, and how many there may be."""

    def __init__(self, claim_ahead: int | Literal["auto"]) -> None:
        self.bound(claim_ahead)
        self.waiting: deque[tuple[Job, float]] = deque()
        #: Whether the last claim that brought any brought a job that may not wait.
        self.is_careful = False
        #: Jobs that end per second, and since when how many have.
        self.rate = 0.0
        self.since = 0.0
        self.ended_count = 0

    def bound(self, claim_ahead: int | Literal["auto"]) -> None:
        """How many may wait from now on."""
        self.most = MOST if claim_ahead == "auto" else claim_ahead

    def __len__(self) -> int:
        return len(self.waiting)

    def keys(self) -> list[AttemptKey]:
        return [(job.id, job.attempt) for job, _ in self.waiting if job.id is not None]

    def measure(self, now: float) -> None:
        """Learn from what has ended since the last look."""
        span = now - self.since
        if span >= SPAN:
            self.rate = (self.rate + self.ended_count / span) / 2
            self.since, self.ended_count = now, 0

    def room(self, limit: int) -> int:
        """How many may wait. None at a limit of one: who asks for that wants strict order."""
        if limit == 1 or self.is_careful:
            return 0
        return min(self.most, int(self.rate * WINDOW))

    def add(self, jobs: Sequence[Job], now: float) -> None:
        self.waiting.extend((job, now) for job in jobs)
        self.is_careful = any(map(may_not_wait, jobs))

    def is_overdue(self, now: float) -> bool:
        """Whether the first has waited for longer than it was claimed for."""
        return bool(self.waiting) and self.overdue_in(now) < 0

    def overdue_in(self, now: float) -> float:
        """In how many seconds the first will have."""
        return self.waiting[0][1] + PATIENCE - now

    def take_all(self) -> list[Job]:
        """Take out all that wait, and begin again with a rate of zero."""
        jobs = [job for job, _ in self.waiting]
        self.waiting.clear()
        self.rate = 0.0
        return jobs

    def take_unwilling(self) -> list[Job]:
        """Take out the first that may not wait, and all behind it, so that the order stays."""
        kept = deque(takewhile(lambda entry: not may_not_wait(entry[0]), self.waiting))
        jobs = [job for job, _ in islice(self.waiting, len(kept), None)]
        self.waiting = kept
        return jobs

    def take_out(self, key: AttemptKey) -> Job | None:
        """Take out one, None if it does not wait here."""
        for entry in self.waiting:
            if (entry[0].id, entry[0].attempt) == key:
                self.waiting.remove(entry)
                return entry[0]
        return None


def may_not_wait(job: Job) -> bool:
    return job.attempt >= job.max_attempts or count(job, "crashes") > 0
