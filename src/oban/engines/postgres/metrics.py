"""The verbs of metrics: counting what has ended, keeping sketches of times, and reading both."""

# What a verb builds has annotations too, which would be evaluated at each call.
from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from oban.engines.metrics import Channel, Counted, MetricFilter, Outlook, Times
from oban.engines.postgres.statements import PostgresOperation, Rows, Steps
from oban.engines.postgres.verbs import Verbs
from oban.fields import encode
from oban.metrics import KEPT, REST, Point, Quantiles, Scale, Series, Stat
from oban.sketch import summarize

#: Rows of one span that tell the node, and again as many that do not.
MOST_ROWS: Final = 500
#: Seconds that reading them may take.
METRICS_PATIENCE: Final = 10.0
#: Rows that one statement deletes.
MOST_FORGOTTEN: Final = 20_000


class MetricVerbs(Verbs):
    def count(self, until: Callable[[Outlook], float]) -> PostgresOperation[Counted]:
        def steps() -> Steps[Counted]:
            ((at, counted_to, writers, _),) = yield self.sql(
                "look_at_finished",
                reach=float(KEPT["minute"]),
                jobs_table=self.jobs_table,
            )
            if counted_to > at:  # the clock was set back, or the look has waited for another
                again = yield self.sql("count_again")
                counted_to = again[0][0] if again else counted_to
            wanted = until(Outlook(at, counted_to, frozenset(writers)))
            if wanted <= counted_to:
                return Counted(0, counted_to)
            # With a snapshot of its own, made after the look: whoever had ended by then is seen.
            ((finished, _),) = yield self.sql(
                "count_finished", until=wanted, grain="minute", most=MOST_ROWS, rest=REST
            )
            return Counted(finished, wanted)

        return PostgresOperation("count", steps, transactional=True, repeatable=True)

    def add_times(self, node: str, times: Sequence[Times]) -> PostgresOperation[None]:
        payload = encode([times_row(node, each) for each in times])

        def steps() -> Steps[None]:
            yield self.sql("plan_simply", milliseconds=None)
            yield self.sql("add_times", times=payload, grain="minute", most=MOST_ROWS, rest=REST)

        return PostgresOperation("add_times", steps, transactional=True)

    def tend_metrics(self) -> PostgresOperation[bool]:
        def steps() -> Steps[bool]:
            yield self.sql("plan_simply", milliseconds=None)
            ((hours,),) = yield self.sql(
                "roll_up", grain="hour", from_grain="minute", most=MOST_ROWS, rest=REST
            )
            ((days,),) = yield self.sql(
                "roll_up", grain="day", from_grain="hour", most=MOST_ROWS, rest=REST
            )
            ((forgotten,),) = yield self.sql(
                "forget_metrics", kept=encode(KEPT), limit=MOST_FORGOTTEN
            )
            return bool(hours or days or forgotten == MOST_FORGOTTEN)

        return PostgresOperation("tend_metrics", steps, transactional=True, repeatable=True)

    def broadcast(self, messages: Sequence[tuple[Channel, str]]) -> PostgresOperation[None]:
        channels = [self.channels.outward(channel) for channel, _ in messages]
        payloads = [payload for _, payload in messages]

        def steps() -> Steps[None]:
            yield self.sql("broadcast", channels=channels, payloads=payloads)

        return PostgresOperation("broadcast", steps, repeatable=True)

    def metrics(
        self, by: str, scale: Scale, wanted: MetricFilter
    ) -> PostgresOperation[list[Series]]:
        def steps() -> Steps[list[Series]]:
            yield self.sql("plan_simply", milliseconds=round(METRICS_PATIENCE * 1_000))
            rows = yield self.sql(
                "read_metrics",
                by=by,
                grain=scale.grain,
                since=scale.since,
                step=float(scale.step),
                queue=wanted.queue,
                worker=wanted.worker,
                node=wanted.node,
                state=wanted.state,
                limit=wanted.limit,
                rest=REST,
            )
            return read_series(rows, scale.step)

        return PostgresOperation(
            "metrics", steps, transactional=True, repeatable=True, is_timed=True
        )

    def stats(
        self,
        path: Sequence[str],
        since: float | None,
        wanted: MetricFilter,
        patience: float,
        newest: int | None = None,
    ) -> PostgresOperation[list[Stat]]:
        part, *keys = path

        def steps() -> Steps[list[Stat]]:
            yield self.sql("plan_simply", milliseconds=round(patience * 1_000))
            rows = yield self.sql(
                "group_jobs",
                part=part,
                keys=keys,
                since=since,
                queue=wanted.queue,
                worker=wanted.worker,
                node=wanted.node,
                state=wanted.state,
                limit=wanted.limit,
                newest=newest,
            )
            return [read_stat(row) for row in rows]

        return PostgresOperation("stats", steps, transactional=True, repeatable=True, is_timed=True)


def times_row(node: str, times: Times) -> Mapping[str, object]:
    return {
        "queue": times.queue,
        "worker": times.worker,
        "node": node,
        "state": times.state,
        "exec": times.exec,
        "wait": times.wait,
    }


def read_series(rows: Rows, step: int) -> list[Series]:
    """All series over the same points, those in which nothing ended included; the rest last."""
    begins_at, ends_at = sorted(at for name, at, *_ in rows if name is None)
    found: dict[str, dict[int, Point]] = {}
    for name, at, counts, *sketches in rows:
        if name is not None:
            exec_, wait = map(read_sketch, sketches)
            point = Point(moment(at), json.loads(counts) if counts else {}, exec_, wait)
            found.setdefault(name, {})[round(at)] = point
    times = range(round(begins_at), round(ends_at) + 1, step)
    series = [
        Series(name, tuple(points.get(at) or Point(moment(at)) for at in times))
        for name, points in found.items()
    ]
    return sorted(series, key=lambda each: (each.group == REST, -total(each), each.group))


def total(series: Series) -> int:
    return sum(sum(point.counts.values()) for point in series.points)


def moment(epoch: float) -> datetime:
    return datetime.fromtimestamp(epoch, UTC)


def read_sketch(text: str | None) -> Quantiles | None:
    if not text:
        return None
    return summarize({int(index): times for index, times in json.loads(text).items()})


def read_stat(row: Sequence[Any]) -> Stat:
    name, count, counts, *times = row
    exec_, wait = (read_quantiles(*times[at : at + 3]) for at in (0, 3))
    return Stat(name, count, json.loads(counts), exec_, wait)


def read_quantiles(
    found: Sequence[float] | None, mean: float | None, count: int
) -> Quantiles | None:
    if found is None or mean is None or not count:
        return None
    p50, p95, p99 = found
    return Quantiles(p50, p95, p99, mean, count)
