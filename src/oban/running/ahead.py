"""Claiming ahead: jobs that are claimed and wait here for a slot that is free in a moment.

When jobs are short a round trip takes longer than they do, and a queue that claims for its free
slots alone waits most of the time. So it also claims what it will start within the next `WINDOW`
seconds, by the rate at which its jobs have just ended. A job that takes longer than that is never
claimed ahead: the rate is then too small for one.
"""

from collections import deque
from typing import Final, Literal

from oban.job import Job
from oban.outcome import AttemptKey

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
        self.most = MOST if claim_ahead == "auto" else claim_ahead
        self.waiting: deque[tuple[Job, float]] = deque()
        #: Jobs that end per second, and since when how many have.
        self.rate = 0.0
        self.since = 0.0
        self.ended_count = 0

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
        return min(self.most, int(self.rate * WINDOW)) if limit > 1 else 0

    def is_overdue(self, now: float) -> bool:
        """Whether the first has waited for longer than it was claimed for."""
        return bool(self.waiting) and now - self.waiting[0][1] > PATIENCE

    def take_all(self) -> list[Job]:
        """Take out all that wait, and begin again with a rate of zero."""
        jobs = [job for job, _ in self.waiting]
        self.waiting.clear()
        self.rate = 0.0
        return jobs

    def take_out(self, key: AttemptKey) -> Job | None:
        """Take out one, None if it does not wait here."""
        for entry in self.waiting:
            if (entry[0].id, entry[0].attempt) == key:
                self.waiting.remove(entry)
                return entry[0]
        return None
