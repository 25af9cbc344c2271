"""What the database says of all nodes and queues, as a collector."""

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from oban.client import Client
from oban.integrations.autoscaling import Forecast, forecast, whole
from oban.integrations.figures import Figures, Watch
from oban.states import FINAL, JobState

STATES: Final = tuple(state for state in JobState if state not in FINAL)


class DatabaseCollector(Collector):
    """Gauges of the queues, the same from whichever process they are scraped: scrape one.

    A scrape takes two seconds at most, however slow the database is, and asks it once in five
    seconds at most, however often it is scraped. While it is away the last figures stand for a
    minute. On a thread with a running event loop nothing is waited for: what is told then may be
    what was read for the scrape before.
    """

    def __init__(self, oban: Client, watch: Watch | None = None) -> None:
        self.watch = Watch(oban.engine) if watch is None else watch

    def describe(self) -> Iterable[Metric]:
        """Nothing: to say more would mean to read it."""
        return ()

    def collect(self) -> Iterator[Metric]:
        figures = self.watch.look()
        up = figures is not None and self.watch.error is None
        yield one("oban_database_up", "Whether the last look at the database was answered.", up)
        if figures is not None:
            yield one("oban_figures_age_seconds", "How old the figures are.", figures.age)
            yield from of_queues(figures)
            yield from of_forecasts(forecast(figures))
            yield from of_producers(figures)


def one(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


def of_queues(figures: Figures) -> Iterator[Metric]:
    for state in STATES:
        found = GaugeMetricFamily(
            f"oban_queue_{state}", f"Jobs that are {state}.", labels=["queue"]
        )
        for queue in figures.queues:
            found.add_metric([queue], figures.counts.get(queue, {}).get(state, 0))
        yield found
    waits = GaugeMetricFamily(
        "oban_queue_oldest_wait_seconds",
        "How long the oldest available job has waited, 0 where there is none.",
        labels=["queue"],
    )
    for queue in figures.queues:
        waits.add_metric([queue], figures.waits.get(queue, 0.0))
    yield waits


def of_forecasts(forecasts: dict[str, Forecast]) -> Iterator[Metric]:
    drain = GaugeMetricFamily(
        "oban_queue_drain_seconds",
        "Until what is available has ended, at the rate of the last minutes.",
        labels=["queue"],
    )
    slots = GaugeMetricFamily(
        "oban_queue_suggested_slots",
        "Slots that would begin what is available within a minute.",
        labels=["queue"],
    )
    for queue, each in forecasts.items():
        if each.drain_seconds is not None:
            drain.add_metric([queue], each.drain_seconds)
        slots.add_metric([queue], each.suggested_slots)
    yield drain
    yield slots


def of_producers(figures: Figures) -> Iterator[Metric]:
    """By queue and node, whose processes are summed up."""
    running: dict[tuple[str, str], int] = {}
    limits: dict[tuple[str, str], int] = {}
    paused: dict[tuple[str, str], int] = {}
    leaders: dict[tuple[str, str], int] = {}
    for each in figures.producers:
        identity = each.identity
        where = identity.queue, identity.node
        running[where] = running.get(where, 0) + each.running_count
        limits[where] = limits.get(where, 0) + whole(each, "limit")
        paused[where] = min(paused.get(where, 1), int(bool(each.meta.get("paused"))))
        who = identity.name, identity.node
        leaders[who] = max(leaders.get(who, 0), int(bool(each.meta.get("leader"))))
    for name, text, labels, values in (
        ("oban_queue_running", "Jobs that run.", ["queue", "node"], running),
        ("oban_queue_limit", "Jobs that may run at once.", ["queue", "node"], limits),
        ("oban_queue_paused", "Whether nothing is claimed.", ["queue", "node"], paused),
        ("oban_leader", "Whether the node leads.", ["oban", "node"], leaders),
    ):
        found = GaugeMetricFamily(name, text, labels=labels)
        for label_values, value in values.items():
            found.add_metric(list(label_values), value)
        yield found
