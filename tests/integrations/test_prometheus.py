"""Scrapes, read by the parsers of the client library itself."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, parser
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.registry import Collector
from tests.integrations.conftest import Ends, next_end

from oban import Job, Oban, job, telemetry
from oban.engines.base import Engine
from oban.integrations.figures import LEAST_AGE, Watch
from oban.integrations.names import MOST
from oban.integrations.prometheus import DatabaseCollector, app, attach, detach
from oban.metrics import REST
from oban.web import app as dashboard

Labels = Mapping[str, str]
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@job(queue="mailers", max_attempts=1)
async def send_mail(to: str) -> None:
    if to == "nobody":
        raise LookupError("no such mailbox")


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    registry = CollectorRegistry()
    attach(registry)
    yield registry
    assert detach()


def samples(text: str, read: Any = parser.text_string_to_metric_families) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in read(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, tuple(sorted(labels.items()))))


@asynccontextmanager
async def scraping(answer: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(answer, client=("127.0.0.1", 5000))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as scraper:
        yield scraper


@pytest.mark.usefixtures("registry")
async def test_a_scrape_tells_what_was_run_here_and_what_the_database_says(
    node: Oban, ended: Ends
) -> None:
    await node.enqueue_many([send_mail.new("ada"), send_mail.new("nobody")])
    await node.enqueue(send_mail.new("bob", schedule_in=3600))
    await node.enqueue_stream([Job(worker="a.B", queue="idle"), Job(worker="a.B", queue="idle")])
    assert {await next_end(ended), await next_end(ended)} == {"completed", "discarded"}
    while (await node.list_queues())[0].running:
        await asyncio.sleep(0.05)

    async with scraping(app(node)) as scraper:
        answer = await scraper.get("/")
    assert answer.headers["content-type"].startswith("text/plain")
    found = samples(answer.text)
    worker = f"{__name__}.send_mail"
    for state in ("completed", "discarded"):
        labels = {"queue": "mailers", "worker": worker, "state": state}
        assert value(found, "oban_jobs_total", **labels) == 1
    assert value(found, "oban_jobs_enqueued_total", queue="mailers") == 3
    assert value(found, "oban_jobs_enqueued_total", queue=REST) == 2
    here = {"queue": "mailers", "worker": worker}
    assert value(found, "oban_job_duration_seconds_count", **here) == 2
    assert value(found, "oban_job_wait_seconds_bucket", queue="mailers", le="+Inf") == 2
    assert value(found, "oban_queue_available", queue="idle") == 2
    assert value(found, "oban_queue_available", queue="mailers") == 0
    assert value(found, "oban_queue_scheduled", queue="mailers") == 1
    assert (value(found, "oban_queue_oldest_wait_seconds", queue="idle") or 0) > 0
    assert value(found, "oban_queue_limit", queue="mailers", node=node.node) == 5
    assert value(found, "oban_queue_running", queue="mailers", node=node.node) == 0
    assert value(found, "oban_queue_paused", queue="mailers", node=node.node) == 0
    assert value(found, "oban_leader", oban="Oban", node=node.node) is not None
    assert (value(found, "oban_queue_suggested_slots", queue="idle") or 0) >= 1
    assert value(found, "oban_database_up") == 1


@pytest.mark.usefixtures("registry")
async def test_the_dashboard_answers_a_scrape_in_either_format(client: Oban) -> None:
    await client.enqueue(Job(worker="a.B", queue='odd "name"\\\n'))
    asked = {"accept": "application/openmetrics-text; version=1.0.0"}
    async with scraping(dashboard(client)) as scraper:
        plain = await scraper.get("/prometheus")
        open_ = await scraper.get("/prometheus", headers=asked)
        odd = await scraper.get("/prometheus", headers={"accept": f"{asked['accept']}a;escaping"})
    assert plain.status_code == open_.status_code == odd.status_code == 200
    assert odd.headers["content-type"] == plain.headers["content-type"]
    assert open_.headers["content-type"].startswith("application/openmetrics-text")
    for found in (samples(plain.text), samples(open_.text, read_openmetrics)):
        assert value(found, "oban_queue_available", queue='odd "name"\\\n') == 1
        assert value(found, "oban_database_up") == 1


async def test_who_may_not_see_the_dashboard_may_not_scrape_it(client: Oban) -> None:
    transport = httpx.ASGITransport(dashboard(client), client=("10.0.0.1", 5000))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as scraper:
        for path in ("/prometheus", "/autoscale"):
            assert (await scraper.get(path)).status_code == 403


def test_series_are_few_whatever_stands_in_the_rows(registry: CollectorRegistry) -> None:
    for number in range(MOST + 50):
        ended = Job(worker=f"app.Worker{number}", queue=f"q{number}")
        metadata = {"job": ended, "state": "completed", "duration": 1, "queue_time": 1}
        telemetry.execute("oban.job.stop", metadata)
    names = {"queue": REST, "worker": REST, "state": "completed"}
    assert registry.get_sample_value("oban_jobs_total", names) == 50
    (family,) = [each for each in registry.collect() if each.name == "oban_jobs"]
    assert len(family.samples) == 2 * (MOST + 1)  # each with the time it began at


def test_rows_that_name_unknown_workers_and_queues_leave_room_for_those_that_run(
    registry: CollectorRegistry,
) -> None:
    unknown = {"state": "scheduled", "duration": 1, "queue_time": 1, "error_type": "UnknownWorker"}
    for n in range(2 * MOST):
        job = Job(worker=f"no.Such{n}", queue=f"q{n}")
        telemetry.execute("oban.client.enqueue.stop", {"jobs": [job], "count": 1})
        telemetry.execute("oban.job.exception", {**unknown, "job": Job(worker=f"no.Such{n}")})
    ended = {"job": Job(worker="a.B"), "state": "completed", "duration": 1, "queue_time": 1}
    telemetry.execute("oban.job.stop", ended)
    get = registry.get_sample_value
    here = {"queue": "default", "worker": "a.B", "state": "completed"}
    assert get("oban_jobs_total", here) == 1
    assert get("oban_jobs_total", {**here, "worker": REST, "state": "scheduled"}) == 2 * MOST
    assert get("oban_jobs_enqueued_total", {"queue": REST}) == MOST


def test_outages_and_other_trouble_are_counted(registry: CollectorRegistry) -> None:
    telemetry.execute("oban.producer.outage", {"failures": 1})
    telemetry.execute("oban.refresher.blocked", {"seconds": 1})
    for event in ("oban.producer.outage", "oban.refresher.blocked"):
        assert registry.get_sample_value("oban_trouble_total", {"event": event}) == 1


def test_attaching_again_begins_anew_and_detaching_leaves_nothing() -> None:
    first, second = CollectorRegistry(), CollectorRegistry()
    attach(first)
    attach(second)
    telemetry.execute("oban.producer.outage", {"failures": 1})
    assert list(first.collect()) == []
    assert second.get_sample_value("oban_trouble_total", {"event": "oban.producer.outage"}) == 1
    assert detach()
    assert not detach()
    assert list(second.collect()) == []


class Slow:
    """A database that takes its time, and is asked how often."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.asked_count = 0
        self.may_answer = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def execute_sync(self, operation: Any) -> Any:
        self.asked_count += 1
        assert self.may_answer.wait(20)
        return self.engine.execute_sync(operation)


async def test_a_scrape_waits_for_no_slow_database(client: Oban) -> None:
    slow: Any = Slow(client.engine)
    collector = DatabaseCollector(client, Watch(slow, wait=0.05))
    began = time.monotonic()
    for _ in range(5):
        up = (await asyncio.to_thread(lambda: list(collector.collect())))[0]
        assert [each.value for each in up.samples] == [0]
    assert time.monotonic() - began < 2
    assert slow.asked_count == 1, "one look at a time"
    slow.may_answer.set()
    async with asyncio.timeout(20):
        while collector.watch.reading is not None:
            await asyncio.sleep(0.01)
    asked = slow.asked_count
    assert next(iter(collector.collect())).samples[0].value == 1, "on the loop, from memory"
    assert slow.asked_count == asked, f"and not again within {LEAST_AGE} seconds"


async def test_a_database_that_is_away_is_told_and_the_last_figures_stand() -> None:
    away = Oban(pool="postgresql://127.0.0.1:1/none?connect_timeout=1", name="away")
    collector: Collector = DatabaseCollector(away)
    found = await asyncio.to_thread(lambda: list(collector.collect()))
    assert [(each.name, each.samples[0].value) for each in found] == [("oban_database_up", 0)]
    await away.stop()
