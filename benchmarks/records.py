"""What jobs wrote when they ran: the only witness of a measurement."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from benchmarks.measurement import Void

SECOND = 1e9


class Record(NamedTuple):
    number: int
    #: Both by CLOCK_MONOTONIC in nanoseconds; `expected` is zero where nothing was.
    began: int
    expected: int


@dataclass(frozen=True)
class Records:
    """What each process wrote, a list for each."""

    processes: list[list[Record]]

    @classmethod
    def read(cls, paths: Sequence[Path]) -> "Records":
        return cls([read(path) for path in paths if path.exists()])

    @cached_property
    def runs(self) -> list[Record]:
        """Those of all processes, in the order in which they began."""
        return sorted((run for each in self.processes for run in each), key=lambda run: run.began)

    def require_exact(self, numbers: Iterable[int]) -> None:
        """Raise `Void` unless each of these jobs ran once and no other did."""
        expected = Counter(numbers)
        found = Counter(run.number for run in self.runs)
        lost, surplus = (expected - found).total(), (found - expected).total()
        if lost or surplus:
            raise Void(f"void: {lost:,} lost, {surplus:,} run more than once")

    @property
    def seconds(self) -> float:
        return self.measured[1]

    @property
    def rate(self) -> float:
        """Jobs a second."""
        count, seconds = self.measured
        return count / max(seconds, 1e-9)

    @cached_property
    def measured(self) -> tuple[int, float]:
        """How many jobs followed the first, and in what time.

        Processes do not begin at the same moment: from when all had begun, unless that leaves out
        more than half.
        """
        begin = max(min(run.began for run in each) for each in self.processes if each)
        whole = self.runs
        window = [run for run in whole if run.began >= begin]
        chosen = window if len(window) * 2 >= len(whole) else whole
        return len(chosen) - 1, (chosen[-1].began - chosen[0].began) / SECOND

    @property
    def late(self) -> list[float]:
        """Milliseconds from when each was expected to when it began."""
        return [(run.began - run.expected) / 1e6 for run in self.runs if run.expected]


def read(path: Path) -> list[Record]:
    with path.open() as file:
        return [Record(*map(int, line.split())) for line in file]


class Lines:
    """Counts the lines of files that grow, reading each byte once."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.read = dict.fromkeys(paths, 0)
        self.count = 0

    def __call__(self) -> int:
        for path, read in self.read.items():
            if path.exists():
                with path.open("rb") as file:
                    file.seek(read)
                    grown = file.read()
                self.read[path] = read + len(grown)
                self.count += grown.count(b"\n")
        return self.count
