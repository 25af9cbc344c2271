"""Metrics: what has ended, and how long it took and waited, as it was kept."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from oban.engines.browsing import PathValue
from oban.errors import InvalidOption, TooSlow
from oban.metrics import DIMENSIONS, Point, Series, path_of
from oban.reading import clean_filter
from oban.states import FINAL
from oban.web.dashboard import PATIENCE, Dashboard, dashboard_of

#: What is shown of a point, and of which quantile.
MEASURES: Final = ("count", "exec", "wait")
QUANTILES: Final = ("p50", "p95", "p99")
#: Lines of a chart; the rest is one more.
MOST_LINES: Final = 9
#: Points of the small line beside a queue.
SPARK_STEP: Final = 120
HOUR: Final = 3_600.0
#: Groups of jobs that are shown, and of how many of the newest jobs: in 0.3 s.
MOST_GROUPS: Final = 50
NEWEST: Final = 200_000
#: Seconds that counting all of them may take.
ALL_PATIENCE: Final = 30.0
#: Width and height of that.
SPARK: Final = (100, 24)


async def index(request: Request) -> Response:
    return dashboard_of(request).page(request, "metrics.html", title="Metrics", by=DIMENSIONS)


async def series(request: Request) -> Response:
    """A chart's lines: the moments, and for each group a value at each of them."""
    dashboard = dashboard_of(request)
    asked = request.query_params
    measure, quantile = asked.get("measure", "count"), asked.get("quantile", "p95")
    if measure not in MEASURES or quantile not in QUANTILES:
        raise InvalidOption(
            f"measure is {measure!r:.20} and quantile {quantile!r:.20}; they are one of "
            f"{', '.join(MEASURES)} and of {', '.join(QUANTILES)}"
        )
    try:
        since = float(asked.get("since", HOUR))
    except ValueError:
        since = HOUR
    state = asked.get("state") or None
    if measure == "count" and state is not None and state not in FINAL:
        raise InvalidOption(
            f"state is {state!r:.40}, in which no job has ended; they end as "
            f"{', '.join(sorted(FINAL))}"
        )
    found = await dashboard.metrics(
        asked.get("by", "state"),
        since,
        limit=MOST_LINES,
        queue=asked.get("queue") or None,
        worker=asked.get("worker") or None,
        node=asked.get("node") or None,
        state=state,
    )
    # The newest step is not over: its count would look like a fall.
    moments = sorted({point.at for each in found for point in each.points})
    moments = moments[:-1] if measure == "count" else moments
    return JSONResponse(
        {
            "at": [moment.timestamp() for moment in moments],
            "measure": measure,
            "series": [
                {"name": each.group, "values": values(each, moments, measure, quantile)}
                for each in found
            ],
        }
    )


def values(
    series: Series, moments: Sequence[datetime], measure: str, quantile: str
) -> list[float | None]:
    known = {point.at: value(point, measure, quantile) for point in series.points}
    return [known.get(moment, 0 if measure == "count" else None) for moment in moments]


def value(point: Point, measure: str, quantile: str) -> float | None:
    if measure == "count":
        return sum(point.counts.values())
    times = point.exec if measure == "exec" else point.wait
    return None if times is None else float(getattr(times, quantile))


@dataclass(frozen=True, slots=True)
class Pace:
    """How a queue goes: the jobs that ended in each step of the last hour, and of late."""

    points: str
    #: Jobs a minute, in the last two steps that are over.
    rate: float


async def paces(dashboard: Dashboard) -> dict[str, Pace]:
    """By queue."""
    found = await dashboard.metrics("queue", HOUR, step=SPARK_STEP)
    paces = {}
    for each in found:
        counts = [sum(point.counts.values()) for point in each.points]
        rate = sum(counts[-3:-1]) / (2 * SPARK_STEP / 60)
        paces[each.group] = Pace(line(counts), rate)
    return paces


def line(counts: Sequence[int]) -> str:
    """The points of a line, in the coordinates of `SPARK`."""
    highest = max(chain(counts, [1]))
    width, height = SPARK
    step = width / max(1, len(counts) - 1)
    return " ".join(
        f"{at * step:.1f},{height - 1 - (height - 2) * count / highest:.1f}"
        for at, count in enumerate(counts)
    )


async def stats(request: Request) -> Response:
    """The jobs of the table in groups, by a column or by something in their arguments."""
    dashboard = dashboard_of(request)
    by = request.query_params.get("by", "worker").strip()
    part, *keys = path = path_of(by)
    if keys and dashboard.hides(PathValue("meta" if part == "meta" else "args", tuple(keys), "")):
        raise InvalidOption(f"{by} is not shown, and so not counted")
    engine = dashboard.oban.engine
    state = request.query_params.get("state") or None
    wanted = clean_filter(None, None, None, state, MOST_GROUPS)
    is_all = request.query_params.get("of") == "all"
    patience, newest = (ALL_PATIENCE, None) if is_all else (PATIENCE, NEWEST)
    counting = engine.stats(path, None, wanted, patience, newest)
    try:
        found = await dashboard.read(counting, patience)
    except TooSlow:
        raise HTTPException(
            503, f"Counting took longer than {patience:g} s: count fewer, or a single state."
        ) from None
    counted = sum(each.count for each in found)
    return dashboard.page(
        request,
        "_stats.html",
        title="Metrics",
        stats=[replace(each, group=dashboard.group(each.group)) for each in found],
        grouped_by=by,
        newest=None if is_all else NEWEST,
        counted=counted,
        most_groups=MOST_GROUPS,
    )


routes: Final = [
    Route("/metrics", index, name="metrics"),
    Route("/series", series),
    Route("/stats", stats),
]
