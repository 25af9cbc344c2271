"""How fast queues go, by what was kept of what has ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from oban.engines.metrics import MetricFilter
from oban.metrics import Scale, Series
from oban.states import JobState

#: Over how many minutes, the one it is now among them.
MINUTES: Final = 3
SCALE: Final = Scale.of(60 * MINUTES, 60)
#: Queues whose pace is told.
MOST: Final = 500
ENDED: Final = MetricFilter(limit=MOST)
#: Attempts that failed, after which the job is to run again.
FAILED: Final = MetricFilter(state=JobState.RETRYABLE, limit=MOST)


@dataclass(frozen=True, slots=True)
class Pace:
    """Of a queue, a minute."""

    #: Jobs that have ended for good.
    ended: float
    #: Attempts that failed, the last ones of jobs too.
    failed: float


def paces(ended: Sequence[Series], failed: Sequence[Series], now: datetime) -> dict[str, Pace]:
    """By queue. Empty where nothing is kept, or nothing has ended of late."""
    minutes = span(ended or failed, now)
    retried = {each.group: attempts(each) for each in failed}
    counts = {each.group: totals(each) for each in ended}
    return {
        queue: Pace(
            sum(counts.get(queue, {}).values()) / minutes,
            (counts.get(queue, {}).get(JobState.DISCARDED, 0) + retried.get(queue, 0)) / minutes,
        )
        for queue in {*counts, *retried}
    }


def span(series: Sequence[Series], now: datetime) -> float:
    """Minutes since the first step began; each is a minute and the last is not over."""
    begins = [each.points[0].at for each in series if each.points]
    return max(1.0, (now - min(begins)).total_seconds() / 60) if begins else 1.0


def totals(series: Series) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for point in series.points:
        for state, count in point.counts.items():
            found[state] = found.get(state, 0) + count
    return found


def attempts(series: Series) -> int:
    return sum(point.exec.count for point in series.points if point.exec is not None)
