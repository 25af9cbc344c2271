"""Forecasts: from figures that are given, and from a database."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from oban import Job, Oban
from oban.engines.nodes import KnownProducer
from oban.engines.runs import ProducerIdentity
from oban.errors import InvalidOption
from oban.integrations.autoscaling import document, forecast
from oban.integrations.figures import Figures
from oban.metrics import Point, Quantiles, Series
from oban.web import app

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)


def minutes(counts: Sequence[int], seconds: float) -> Series:
    """So many jobs in each minute, the last of which is not over."""
    times = Quantiles(seconds, seconds, seconds, seconds, 1)
    return Series(
        "mailers",
        tuple(
            Point(NOW + timedelta(minutes=at), {"completed": n} if n else {}, times if n else None)
            for at, n in enumerate(counts)
        ),
    )


def producer(running: int = 0, **meta: object) -> KnownProducer:
    identity = ProducerIdentity(name="Oban", node="n", queue="mailers", uuid="u")
    return KnownProducer(identity, NOW, running, {"limit": 10, **meta}, 1.0, 10.0)


def figures(available: int = 0, ended: Series | None = None, *producers: KnownProducer) -> Figures:
    counts = {"mailers": {"available": available}} if available else {}
    return Figures(counts, {}, producers, {} if ended is None else {"mailers": ended})


def test_what_waits_drains_at_the_rate_of_the_minutes_that_are_over() -> None:
    pace = minutes([500, 60, 60, 60, 60, 60, 7], seconds=2.0)
    found = forecast(figures(120, pace, producer(2), producer(1)))["mailers"]
    assert found.rate_per_minute == 60
    assert found.drain_seconds == 120
    assert (found.running, found.limit, found.processes) == (3, 20, 2)
    # Three run, and 120 jobs of 2 seconds are 4 slots for a minute.
    assert found.suggested_slots == 7


def test_what_keeps_up_keeps_its_slots() -> None:
    pace = minutes([600] * 7, seconds=1.0)
    found = forecast(figures(0, pace, producer(4)))["mailers"]
    assert (found.drain_seconds, found.suggested_slots) == (0, 10)


def test_long_jobs_of_which_none_has_ended_keep_their_slots() -> None:
    found = forecast(figures(0, minutes([1, 0, 0, 0, 0, 0], 1.0), producer(8)))["mailers"]
    assert found.suggested_slots == 8


def test_a_pace_begins_with_the_first_minute_in_which_anything_ended() -> None:
    found = forecast(figures(30, minutes([0, 0, 0, 0, 30, 9], 1.0)))["mailers"]
    assert found.rate_per_minute == 30
    assert found.drain_seconds == 60


def test_of_what_nothing_is_known_nothing_is_foretold() -> None:
    idle = forecast(figures(0, None, producer()))["mailers"]
    assert (idle.rate_per_minute, idle.drain_seconds, idle.suggested_slots) == (None, 0, 0)
    begun = forecast(figures(5))["mailers"]
    assert (begun.rate_per_minute, begun.drain_seconds, begun.suggested_slots) == (None, None, 1)


def test_a_limit_over_all_nodes_bounds_what_is_suggested() -> None:
    pace = minutes([60] * 7, seconds=60.0)
    found = forecast(figures(6000, pace, producer(10, global_limit=15)))["mailers"]
    assert (found.limit, found.suggested_slots) == (10, 15)


def test_more_nodes_are_no_help_to_a_queue_that_is_paused() -> None:
    pace = minutes([60] * 7, seconds=1.0)
    found = forecast(figures(6000, pace, producer(1, paused=True)))["mailers"]
    assert found.paused
    assert (found.drain_seconds, found.suggested_slots) == (None, 1)


def test_more_time_takes_fewer_slots() -> None:
    pace = minutes([60] * 7, seconds=1.0)
    few, many = (
        forecast(figures(600, pace), within)["mailers"].suggested_slots for within in (600, 10)
    )
    assert (few, many) == (2, 61)
    with pytest.raises(InvalidOption, match="within"):
        forecast(figures(), 0)


def test_what_another_version_tells_is_passed_over() -> None:
    odd = producer(1, limit="many", global_limit=[], paused="")
    assert document(figures(1, None, odd))["queues"]["mailers"]["limit"] == 0


async def test_the_dashboard_tells_the_forecast_of_each_queue(node: Oban) -> None:
    await node.enqueue_many(Job(worker="a.B", queue="idle") for _ in range(3))
    transport = httpx.ASGITransport(app(node), client=("127.0.0.1", 5000))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as scaler:
        told = (await scaler.get("/autoscale?within=30")).json()
        refused = await scaler.get("/autoscale?within=soon")
        nobodys = (await scaler.get("/autoscale?queue=new")).json()["queues"]["new"]
    assert told["within"] == 30
    assert told["age"] < 5
    assert told["queues"]["idle"].items() >= {
        "available": 3, "running": 0, "limit": 0, "processes": 0, "paused": False,
        "rate_per_minute": None, "drain_seconds": None, "suggested_slots": 1,
    }.items()  # fmt: skip
    assert told["queues"]["idle"]["oldest_wait"] > 0
    assert told["queues"]["mailers"]["limit"] == 5
    assert refused.status_code == 400
    assert (nobodys["available"], nobodys["suggested_slots"]) == (0, 0)


async def test_what_is_not_known_scales_nothing() -> None:
    away = Oban(pool="postgresql://127.0.0.1:1/none?connect_timeout=1", name="away")
    transport = httpx.ASGITransport(app(away), client=("127.0.0.1", 5000))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as scaler:
        answer = await scaler.get("/autoscale")
    assert answer.status_code == 503
    assert answer.json()["error"]
    await away.stop()
