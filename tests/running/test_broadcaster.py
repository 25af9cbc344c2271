"""Nodes of other packages are told in their own words, in payloads that fit."""

import asyncio
import json
from typing import Any

import psycopg
import pytest
from tests.roads import direct
from tests.running.support import Running, reached

from oban import Job, Oban, Worker, worker
from oban.engines.metrics import Times
from oban.engines.reads import JobCount
from oban.running.broadcaster import (
    MOST_BYTES,
    first_running,
    full_count,
    metrics_of,
    payloads_of,
)
from oban.sketch import bin_of


@worker(oban="broadcasting", queue="told", cron="0 9 * * MON")
class Told(Worker):
    async def process(self, job: Job) -> None:
        await asyncio.sleep(0.01)


def test_what_is_too_long_for_one_payload_goes_in_several() -> None:
    items = [{"queue": "ö" * 100, "n": n} for n in range(200)]
    found = list(payloads_of("checks", items, {"node": "n"}))
    assert len(found) > 2
    assert all(len(each.encode()) <= MOST_BYTES for each in found)
    assert all(json.loads(each)["node"] == "n" for each in found)
    assert [item for each in found for item in json.loads(each)["checks"]] == items


def test_what_fits_in_none_is_left_out() -> None:
    found = list(payloads_of("checks", ["x" * MOST_BYTES, "y"], {}))
    assert [json.loads(each) for each in found] == [{"checks": ["y"]}]
    assert list(payloads_of("checks", [], {})) == []


def test_a_wide_sketch_is_told_in_parts_that_add_up() -> None:
    bins = dict.fromkeys(range(1000), 2)
    count, *parts = metrics_of(Times("q", "w", "completed", bins, {7: 2_000}))
    assert count["value"] == {"data": [2_000]}
    assert [each["series"] for each in parts] == [*["exec_time"] * 5, "wait_time"]
    assert sum(each["value"]["size"] for each in parts[:5]) == 2_000
    data = [each["value"]["data"] for each in parts]
    assert {int(index) for each in data[:5] for index in each} == set(range(1_000))
    assert data[5] == {"7": 2_000}
    assert full_count(JobCount("q", "available", 3)) == {
        "series": "full_count", "state": "available", "queue": "q",
        "value": {"data": [3]},
    }  # fmt: skip


def test_with_the_longest_names_all_of_a_sketch_and_a_queue_is_told() -> None:
    name = "\N{SNOWMAN WITHOUT SNOW}\a" * 63
    wide = list(metrics_of(Times(name, name, "completed", dict.fromkeys(range(1_037), 10**6), {})))
    found = list(payloads_of("metrics", wide, {"name": name, "node": name * 2, "time": 10**10}))
    assert [each for told in found for each in json.loads(told)["metrics"]] == wide
    ids = list(first_running(iter(range(10**18, 10**18 + 500))))
    assert len(ids) == 250
    assert list(first_running(range(10))) == list(range(10))


async def heard(dsn: str, seconds: float) -> dict[str, list[Any]]:
    """What is told on each of the channels."""
    found: dict[str, list[Any]] = {}
    async with await psycopg.AsyncConnection.connect(direct(dsn), autocommit=True) as connection:
        for name in ("gossip", "metrics", "cronitor"):
            await connection.execute(f'listen "public.oban_{name}"'.encode())
        async for notification in connection.notifies(timeout=seconds):
            name = notification.channel.removeprefix("public.oban_")
            assert notification.payload.startswith("{")
            found.setdefault(name, []).append(json.loads(notification.payload))
    return found


@pytest.mark.hears("it listens itself")
async def test_others_are_told_when_that_is_asked_for(
    client: Oban, running: Running, oban_dsn: str
) -> None:
    options = {
        "name": "broadcasting",
        "metrics": {"broadcast": True, "interval": 0.1},
        "node": "here",
    }
    listening = asyncio.create_task(heard(oban_dsn, 4.0))
    await asyncio.sleep(0.3)
    async with running(queues={"told": 3}, **options) as oban:
        for job in await client.enqueue_many(Told.new() for _ in range(10)):
            await reached(oban, job, "completed")
        found = await listening
    check = found["gossip"][0]["checks"][0]
    assert check.keys() == {
        "uuid", "name", "node", "queue", "local_limit", "limit", "paused", "running", "started_at",
        "updated_at", "shutdown_started_at", "global_limit", "rate_limit",
    }  # fmt: skip
    assert (check["queue"], check["node"], check["limit"], check["paused"]) == (
        "told", "here", 3, False
    )  # fmt: skip
    (crontab,) = found["cronitor"]
    entry = [each for each in crontab["crontab"] if each[1] == Told.new().worker]
    assert entry == [
        ["0 9 * * MON", Told.new().worker, {"timezone": "UTC", "name": entry[0][2]["name"]}]
    ]
    assert (crontab["name"], crontab["node"]) == ("broadcasting", "here")
    assert {frozenset(message) for message in found["metrics"]} == {
        frozenset(["metrics", "name", "node", "time"])
    }
    metrics = [metric for message in found["metrics"] for metric in message["metrics"]]
    labels = {"state", "queue", "worker"}
    assert {each["series"]: each.keys() - {"series", "value"} for each in metrics} == {
        "exec_count": labels, "exec_time": labels, "wait_time": labels,
        "full_count": labels - {"worker"},
    }  # fmt: skip
    assert {message["node"] for message in found["metrics"]} == {"here"}
    exec_times = [each["value"] for each in metrics if each["series"] == "exec_time"]
    assert sum(each["size"] for each in exec_times) == 10
    assert all(int(index) >= bin_of(9_000_000) for each in exec_times for index in each["data"])
    full = [each for each in metrics if each["series"] == "full_count"]
    assert {"completed"} <= {each["state"] for each in full}
    # What was told passed through to what is kept.
    kept = await client.metrics("queue")
    assert sum(point.exec.count for each in kept for point in each.points if point.exec) == 10


@pytest.mark.hears("it listens itself")
async def test_nobody_is_told_by_default(running: Running, oban_dsn: str) -> None:
    async with running():
        assert await heard(oban_dsn, 1.5) == {}
