"""What the attempts of this process took, gathered until it is told."""

import math
import threading
from collections import deque
from datetime import datetime, timedelta
from typing import Final

from oban.engines.metrics import Times
from oban.job import Job
from oban.metrics import REST
from oban.sketch import LOG_GAMMA, LONGEST, bin_of
from oban.states import AVAILABLE

#: Notes that are kept as they are: more are put into sketches at once, which takes a fraction of a
#: millisecond.
MOST_NOTES: Final = 256
#: Sketches that are kept apart; what more there are becomes one for each state.
MOST_SKETCHES: Final = 500

MICROSECOND: Final = timedelta(microseconds=1)

#: Queue, worker and state.
Key = tuple[str, str, str]
Bins = dict[int, int]


class Meter:
    """Notes come on the loop of the jobs, and are taken on another thread.

    A note holds on to its job, and so there are few of them; sketches take little, however many
    attempts are in them.
    """

    def __init__(self) -> None:
        self.notes: deque[tuple[Job, str, int]] = deque()
        self.sketches: dict[Key, tuple[Bins, Bins]] = {}
        self.lock = threading.Lock()

    def note(self, job: Job, state: str, duration: int) -> None:
        """An attempt has taken so many nanoseconds. What was given back did not come to an end."""
        if state == AVAILABLE:
            return
        self.notes.append((job, state, duration))
        if len(self.notes) >= MOST_NOTES:
            with self.lock:
                self.sketch()

    def is_empty(self) -> bool:
        return not (self.notes or self.sketches)

    def take(self) -> list[Times]:
        """All that was noted and is not taken yet."""
        with self.lock:
            self.sketch()
            taken, self.sketches = self.sketches, {}
        return [Times(*key, exec_, wait) for key, (exec_, wait) in taken.items()]

    def put_back(self, times: list[Times]) -> None:
        """What could not be told is taken once more."""
        with self.lock:
            for each in times:
                sketches = self.sketches_of((each.queue, each.worker, each.state))
                for bins, more in zip(sketches, (each.exec, each.wait), strict=True):
                    for index, count in more.items():
                        bins[index] = bins.get(index, 0) + count

    def sketch(self) -> None:
        """Put the notes into sketches. Written out, as it is done for each attempt."""
        notes, known = self.notes, self.sketches
        log, ceil, base = math.log, math.ceil, LOG_GAMMA
        while notes:
            job, state, duration = notes.popleft()
            key = (job.queue, job.worker, state)
            exec_, wait = known.get(key) or self.sketches_of(key)
            index = ceil(log(duration) / base) if 1 < duration < LONGEST else bin_of(duration)
            exec_[index] = exec_.get(index, 0) + 1
            due, began = job.scheduled_at, job.attempted_at
            waited = waiting_time(due, began) if due is not began else 0
            index = ceil(log(waited) / base) if 1 < waited < LONGEST else bin_of(waited)
            wait[index] = wait.get(index, 0) + 1

    def sketches_of(self, key: Key) -> tuple[Bins, Bins]:
        if key not in self.sketches and len(self.sketches) >= MOST_SKETCHES:
            key = (REST, REST, key[2])
        return self.sketches.setdefault(key, ({}, {}))


def waiting_time(due: datetime | None, began: datetime | None) -> int:
    """Nanoseconds between the moment a job was due and its claim, by the database's clock."""
    if due is None or began is None:
        return 0
    return (began - due) // MICROSECOND * 1_000
