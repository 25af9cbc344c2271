"""Up to when all that has ended can be seen, whoever is still writing."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

#: Seconds from the time that a statement gives what it writes until it is known as a writer, and
#: by which clocks of other packages may be behind.
MARGIN: Final = 1.0


@dataclass(frozen=True, slots=True)
class Writer:
    #: What it writes bears this time or a later one.
    began_after: float
    #: When it was first seen.
    seen_at: float


class Horizon:
    """A row is seen once its transaction has ended, and bears the time when its statement began.

    So what bears a time up to the horizon is seen when no transaction that writes jobs may have
    begun before it: each is known from the first look that finds it, and had not begun at the look
    before. Of those that the very first look finds nothing is known until they have ended; nor of
    those that are there when the clock has been set back, since they may bear times by either.
    """

    def __init__(self) -> None:
        self.writers: dict[str, Writer] = {}
        self.looked_at = -math.inf

    def look(self, at: float, writers: Iterable[str]) -> float:
        """The horizon, given who writes at this time; minus infinity while it is not known."""
        if at < self.looked_at:
            self.writers, self.looked_at = {}, -math.inf
        new = Writer(self.looked_at, at)
        self.writers = {name: self.writers.get(name, new) for name in writers}
        self.looked_at = at
        return min((each.began_after for each in self.writers.values()), default=at) - MARGIN

    def held_for(self) -> float:
        """For how many seconds the same transaction has been writing, at least."""
        first = min((each.seen_at for each in self.writers.values()), default=self.looked_at)
        return self.looked_at - first
