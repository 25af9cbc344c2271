"""Traces that go from an enqueue to its run, kept in memory by the SDK itself."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import psycopg
import pytest
import sqlalchemy
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, Tracer
from sqlalchemy.ext.asyncio import create_async_engine
from tests.integrations import traced_in_child
from tests.integrations.conftest import Ends, next_end
from tests.roads import direct
from tests.running.support import reached

from oban import Discard, Job, Oban, job, testing
from oban.integrations.opentelemetry import instrument, uninstrument

Spans = InMemorySpanExporter


@pytest.fixture
def provider(spans: Spans) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider


@pytest.fixture
def spans() -> Spans:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(provider: TracerProvider) -> Tracer:
    return provider.get_tracer("test")


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def traced(provider: TracerProvider, reader: InMemoryMetricReader) -> Iterator[None]:
    instrument(tracer_provider=provider, meter_provider=MeterProvider([reader]))
    yield
    assert uninstrument()


@job(queue="mailers", max_attempts=1)
async def send_mail(to: str) -> None:
    if to == "nobody":
        raise LookupError("no such mailbox")


@job(queue="mailers")
def count_words(text: str) -> Any:
    """On a thread, within the span of its run."""
    with inner_tracer().start_as_current_span("count"):
        return Discard("empty") if not text else None


@job(queue="mailers")
async def fan_out() -> None:
    await send_mail.enqueue("bob")


def inner_tracer() -> Tracer:
    """Of whoever made the current span."""
    current = trace.get_current_span()
    assert current.get_span_context().is_valid
    return INNER[0]


INNER: list[Tracer] = []


@pytest.fixture(autouse=True)
def inner(tracer: Tracer) -> Iterator[None]:
    INNER.append(tracer)
    yield
    INNER.clear()


def by_name(spans: Spans) -> dict[str, ReadableSpan]:
    return {each.name: each for each in spans.get_finished_spans()}


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def trace_of(span: ReadableSpan) -> int:
    found: int = span.context.trace_id
    return found


@pytest.mark.usefixtures("traced")
async def test_a_request_its_enqueue_and_its_run_are_one_trace(
    node: Oban, ended: Ends, provider: TracerProvider, spans: Spans
) -> None:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/signups")
    async def sign_up(email: str) -> dict[str, int | None]:
        return {"job": (await send_mail.enqueue(email)).id}

    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider, exclude_spans=["receive"])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as browser:
        answer = await browser.post("/signups?email=ada")
    assert await next_end(ended) == "completed"

    found = by_name(spans)
    request, send, process = (
        found[each] for each in ("POST /signups", "send mailers", "process mailers")
    )
    assert len({trace_of(each) for each in found.values()}) == 1
    assert parent_of(request) is None
    assert parent_of(send) == request.context.span_id
    assert parent_of(process) == send.context.span_id
    assert [each.kind for each in (request, send, process)] == [
        SpanKind.SERVER, SpanKind.PRODUCER, SpanKind.CONSUMER,
    ]  # fmt: skip
    assert (
        dict(process.attributes or {}).items()
        >= {
            "messaging.system": "oban",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": "mailers",
            "messaging.message.id": str(answer.json()["job"]),
            "oban.job.worker": f"{__name__}.send_mail",
            "oban.job.attempt": 1,
            "oban.job.max_attempts": 1,
            "oban.job.state": "completed",
        }.items()
    )
    assert dict(send.attributes or {})["messaging.message.id"] == str(answer.json()["job"])


@pytest.mark.usefixtures("traced")
async def test_every_way_of_enqueueing_carries_the_trace(
    client: Oban, tracer: Tracer, oban_dsn: str
) -> None:
    def mail() -> Job:
        return send_mail.new("ada")

    engine = create_async_engine(
        sqlalchemy.make_url("postgresql+psycopg://"), connect_args=conninfo(oban_dsn)
    )
    with tracer.start_as_current_span("outer") as outer:
        await client.enqueue(mail())
        await client.enqueue_many(mail(), mail())
        await client.enqueue_stream([mail()])
        await asyncio.gather(*(client.enqueue(mail()) for _ in range(5)))
        async with await psycopg.AsyncConnection.connect(oban_dsn) as conn:
            await client.enqueue(mail(), conn=conn)
        async with engine.begin() as session:
            await client.enqueue(mail(), conn=session)
        await asyncio.to_thread(client.enqueue_sync, mail())
        await asyncio.to_thread(client.enqueue_many_sync, mail(), mail())
    await engine.dispose()

    carried = metas(oban_dsn)
    assert len(carried) == 14
    wanted = f"{outer.get_span_context().trace_id:032x}"
    assert {each["traceparent"].split("-")[1] for each in carried} == {wanted}
    assert len({each["traceparent"] for each in carried}) == 12, "one for each call"


def conninfo(dsn: str) -> dict[str, Any]:
    return psycopg.conninfo.conninfo_to_dict(dsn)


def metas(dsn: str) -> list[dict[str, Any]]:
    with psycopg.connect(direct(dsn)) as connection:
        return [row[0] for row in connection.execute("select meta from oban_jobs").fetchall()]


@pytest.mark.usefixtures("traced")
async def test_what_code_on_a_thread_does_lies_within_its_run(
    node: Oban, ended: Ends, spans: Spans
) -> None:
    await count_words.enqueue("a b")
    assert await next_end(ended) == "completed"
    found = by_name(spans)
    assert parent_of(found["count"]) == found["process mailers"].context.span_id


@pytest.mark.usefixtures("traced")
async def test_so_does_what_a_child_process_does(node: Oban, ended: Ends, spans: Spans) -> None:
    told = await traced_in_child.tell.enqueue()
    assert await next_end(ended) == "completed"
    process = by_name(spans)["process mailers"].context
    recorded = await reached(node, told, "completed")
    assert recorded.recorded() == [f"{process.trace_id:032x}", f"{process.span_id:016x}"]


@pytest.mark.usefixtures("traced")
async def test_a_job_of_a_job_goes_on_with_its_trace(node: Oban, ended: Ends, spans: Spans) -> None:
    await fan_out.enqueue()
    assert [await next_end(ended), await next_end(ended)] == ["completed", "completed"]
    found = spans.get_finished_spans()
    assert len(found) == 4
    assert len({trace_of(each) for each in found}) == 1


@pytest.mark.usefixtures("traced")
async def test_a_failure_is_told_with_its_error(node: Oban, ended: Ends, spans: Spans) -> None:
    await send_mail.enqueue("nobody")
    assert await next_end(ended) == "discarded"
    process = by_name(spans)["process mailers"]
    assert process.status.status_code is StatusCode.ERROR
    assert process.status.description == "LookupError: no such mailbox"
    assert dict(process.attributes or {})["error.type"] == "LookupError"
    (event,) = process.events
    assert event.name == "exception"
    assert "send_mail" in str(dict(event.attributes or {})["exception.stacktrace"])

    await count_words.enqueue("")
    assert await next_end(ended) == "discarded"
    assert spans.get_finished_spans()[-1].status.description == "discarded"


@pytest.mark.usefixtures("traced")
async def test_an_enqueue_that_fails_ends_its_span(client: Oban, spans: Spans) -> None:
    mail = send_mail.new("ada")
    mail.args = {"to": object()}
    with pytest.raises(ValueError, match="args"):
        await client.enqueue(mail)
    send = by_name(spans)["send mailers"]
    assert send.status.status_code is StatusCode.ERROR
    assert not trace.get_current_span().get_span_context().is_valid, "it is current no longer"


async def test_a_run_may_begin_a_trace_that_refers_to_the_other(
    node: Oban, ended: Ends, provider: TracerProvider, spans: Spans
) -> None:
    instrument(tracer_provider=provider, linked=True)
    try:
        await send_mail.enqueue("ada")
        await next_end(ended)
    finally:
        uninstrument()
    found = by_name(spans)
    send, process = found["send mailers"], found["process mailers"]
    assert trace_of(process) != trace_of(send)
    assert [each.context.span_id for each in process.links] == [send.context.span_id]


@pytest.mark.parametrize(
    "meta", ['{"traceparent": 1, "tracestate": []}', '{"traceparent": "00-0"}', "[]", '"00-1"']
)
@pytest.mark.usefixtures("traced")
async def test_what_stands_in_somebody_elses_meta_harms_nobody(
    node: Oban, ended: Ends, spans: Spans, oban_dsn: str, meta: str
) -> None:
    with psycopg.connect(direct(oban_dsn), autocommit=True) as connection:
        connection.execute(
            "insert into oban_jobs (worker, queue, args, meta) values (%s, 'mailers', %s, %s)",
            [f"{__name__}.send_mail", json.dumps({"to": "ada"}), meta],
        )
    # One that is no object fails the attempt, whoever traces it.
    assert await next_end(ended) == ("completed" if meta.startswith("{") else "retryable")
    (process,) = spans.get_finished_spans()
    assert process.parent is None


@pytest.mark.usefixtures("traced")
async def test_a_node_that_starts_within_a_span_does_not_take_its_jobs_along(
    oban_dsn: str, ended: Ends, tracer: Tracer, spans: Spans
) -> None:
    client = Oban(pool=oban_dsn, name="client")
    with tracer.start_as_current_span("startup"):
        node = await Oban(pool=oban_dsn, queues={"mailers": 5}).start()
    await client.enqueue(send_mail.new("ada"))
    await next_end(ended)
    await node.stop()
    await client.stop()
    found = by_name(spans)
    assert trace_of(found["process mailers"]) == trace_of(found["send mailers"])
    assert trace_of(found["process mailers"]) != trace_of(found["startup"])


@pytest.mark.usefixtures("traced")
async def test_jobs_that_run_inline_lie_within_their_enqueue(client: Oban, spans: Spans) -> None:
    with testing.mode("inline"):
        await client.enqueue(fan_out.new())
    sends = [each for each in spans.get_finished_spans() if each.kind is SpanKind.PRODUCER]
    assert len(spans.get_finished_spans()) == 4
    assert len({trace_of(each) for each in spans.get_finished_spans()}) == 1
    assert len(sends) == 2
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.usefixtures("traced")
async def test_metrics_count_and_time_what_is_sent_and_run(
    node: Oban, ended: Ends, reader: InMemoryMetricReader
) -> None:
    await node.enqueue_many([send_mail.new("ada"), send_mail.new("nobody")])
    assert {await next_end(ended), await next_end(ended)} == {"completed", "discarded"}

    data = json.loads(reader.get_metrics_data().to_json())  # type: ignore[union-attr]
    found = {
        metric["name"]: metric["data"]["data_points"]
        for resource in data["resource_metrics"]
        for scope in resource["scope_metrics"]
        for metric in scope["metrics"]
    }
    assert [each["value"] for each in found["messaging.client.sent.messages"]] == [2]
    assert [each["count"] for each in found["messaging.client.operation.duration"]] == [1]
    states = {each["attributes"]["oban.job.state"] for each in found["messaging.process.duration"]}
    assert states == {"completed", "discarded"}
    errors = {each["attributes"].get("error.type") for each in found["messaging.process.duration"]}
    assert errors == {None, "LookupError"}
    assert [each["count"] for each in found["oban.job.wait.duration"]] == [2]
    assert sum(each["value"] for each in found["messaging.client.consumed.messages"]) == 2


async def test_without_it_nothing_is_carried(client: Oban, oban_dsn: str) -> None:
    assert not uninstrument()
    await client.enqueue(send_mail.new("ada"))
    assert metas(oban_dsn) == [{}]
