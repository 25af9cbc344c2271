"""How long each queue takes to drain, and how many slots it should have: for who adds nodes."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from oban.engines.nodes import KnownProducer
from oban.integrations.figures import Figures
from oban.metrics import Point, Series, clean_seconds
from oban.states import JobState

#: Seconds within which what waits is to be begun, unless somebody says otherwise.
WITHIN: Final = 60.0
#: The minutes of which the pace is taken: the last that are over.
MINUTES: Final = 5


@dataclass(frozen=True, slots=True)
class Forecast:
    """A queue over all nodes that are alive."""

    available: int
    #: Seconds that the oldest of these has waited.
    oldest_wait: float
    running: int
    #: How many may run at once, on all nodes together.
    limit: int
    #: The processes that run it.
    processes: int
    #: Whether none of these claims anything, because it was paused.
    paused: bool
    #: Jobs that ended for good, None where nothing is known of the last minutes.
    rate_per_minute: float | None
    #: Until all that is available has ended at that rate, None where there is none.
    drain_seconds: float | None
    #: What would begin all of it within the time that was asked for.
    suggested_slots: int


def forecast(
    figures: Figures, within: float = WITHIN, asked: Iterable[str] = ()
) -> dict[str, Forecast]:
    """By queue, with those that are asked for also where there is nothing of them.

    Raises InvalidOption for a time that is none.
    """
    clean_seconds("within", within, least=1, most=86_400)
    names = sorted({*figures.queues, *asked})
    return {queue: of_queue(figures, queue, within) for queue in names}


def document(figures: Figures, within: float = WITHIN, asked: Iterable[str] = ()) -> dict[str, Any]:
    """The same as JSON, with how many seconds ago the figures were read."""
    forecasts = forecast(figures, within, asked)
    told = {queue: rounded(asdict(each)) for queue, each in forecasts.items()}
    return {"within": within, "age": round(figures.age, 1), "queues": told}


def rounded(told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: round(value, 3) if isinstance(value, float) else value for name, value in told.items()
    }


def of_queue(figures: Figures, queue: str, within: float) -> Forecast:
    producers = [each for each in figures.producers if each.identity.queue == queue]
    available = figures.counts.get(queue, {}).get(JobState.AVAILABLE, 0)
    running = sum(each.running_count for each in producers)
    paused = bool(producers) and all(each.meta.get("paused") for each in producers)
    limit = sum(whole(each, "limit") for each in producers)
    most = min((each for each in (whole(p, "global_limit") for p in producers) if each), default=0)
    pace = Pace.of(figures.ended.get(queue))
    per_second = (pace.rate or 0.0) / 60
    drain = None
    if not available:
        drain = 0.0
    elif per_second and not paused:
        drain = available / per_second
    slots = running if paused else suggested(available, running, limit, pace, within)
    return Forecast(
        available=available,
        oldest_wait=figures.waits.get(queue, 0.0),
        running=running,
        limit=min(limit, most) if most else limit,
        processes=len(producers),
        paused=paused,
        rate_per_minute=pace.rate,
        drain_seconds=drain,
        suggested_slots=min(slots, most) if most else slots,
    )


def suggested(available: int, running: int, limit: int, pace: "Pace", within: float) -> int:
    """Slots that keep up with what comes, and begin what waits in time.

    By Little's law jobs that come at a rate and take so long keep rate x length slots busy. What
    runs is a lower bound of that: of long jobs none may have ended yet. What waits takes its whole
    length, spread over the time that there is.
    """
    if not (available or running):
        return 0
    if pace.length is None:  # nothing has ended: one slot shows how long a job takes
        return max(running, limit if available else 0, 1)
    busy = max(running, (pace.rate or 0.0) / 60 * pace.length)
    return max(1, math.ceil(busy + available * pace.length / within))


@dataclass(frozen=True, slots=True)
class Pace:
    """How a queue went in the last minutes that are over."""

    #: Jobs a minute, from the first minute in which any ended.
    rate: float | None = None
    #: Seconds that an attempt takes.
    length: float | None = None

    @classmethod
    def of(cls, series: Series | None) -> "Pace":
        points: list[Point] = list(series.points[-1 - MINUTES : -1]) if series else []
        while points and not (points[0].counts or points[0].exec):
            del points[0]
        if not points:
            return cls()
        rate = sum(sum(each.counts.values()) for each in points) / len(points)
        times = [each.exec for each in points if each.exec is not None]
        count = sum(each.count for each in times)
        length = sum(each.mean * each.count for each in times) / count if count else None
        return cls(rate, length)


def whole(producer: KnownProducer, name: str) -> int:
    """What a node has told, which another version may tell in another way."""
    value = producer.meta.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
