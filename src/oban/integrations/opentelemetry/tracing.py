"""A span around each enqueue, and one around each attempt, which is its child."""

from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Final

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from oban.integrations.opentelemetry.attributes import (
    BATCH_COUNT,
    ERROR_TYPE,
    MESSAGE_ID,
    PROCESS,
    SEND,
    STATE,
    common_queue,
    of_attempt,
    of_sent,
)
from oban.job import Job
from oban.states import JobState
from oban.telemetry import Metadata

#: W3C's format whatever the application has chosen for its requests: all nodes read the same, and
#: no baggage, which may be anything, is stored with jobs.
CARRIER: Final = TraceContextTextMapPropagator()
CARRIED: Final = ("traceparent", "tracestate")
#: A span's name ends where somebody's queue is longer than this.
LONGEST_NAME: Final = 100


@dataclass(frozen=True, slots=True)
class Open:
    """A span that has begun here, and what it lies within."""

    #: What its end is told with as well as its begin.
    key: object
    span: Span
    token: Token[Context]
    outer: "Open | None"


#: The innermost that is open in this context, which is that of a task.
OPEN: Final[ContextVar[Open | None]] = ContextVar("oban_open_span", default=None)


class Tracing:
    def __init__(self, provider: TracerProvider | None, *, linked: bool) -> None:
        self.tracer = trace.get_tracer("oban", tracer_provider=provider)
        self.linked = linked
        self.handlers: Mapping[str, Callable[[Metadata], None]] = {
            "oban.client.enqueue.start": self.begin_enqueue,
            "oban.client.enqueue.stop": self.end_enqueue,
            "oban.client.enqueue.exception": self.fail_enqueue,
            "oban.job.start": self.begin_attempt,
            "oban.job.stop": self.end_attempt,
            "oban.job.exception": self.fail_attempt,
            "oban.child.send": self.send_to_child,
            "oban.child.run.start": self.begin_in_child,
            "oban.child.run.stop": self.end_in_child,
            "oban.child.run.exception": self.end_in_child,
        }

    def __call__(self, name: str, metadata: Metadata) -> None:
        self.handlers[name](metadata)

    # Enqueueing: one span for a call, whose context all its jobs carry

    def begin_enqueue(self, metadata: Metadata) -> None:
        jobs = metadata["jobs"]
        span = self.tracer.start_span(
            named(SEND, common_queue(jobs)), kind=SpanKind.PRODUCER, attributes=of_sent(jobs)
        )
        CARRIER.inject(metadata["meta"], trace.set_span_in_context(span))
        enter(metadata["meta"], span, context.get_current())

    def end_enqueue(self, metadata: Metadata) -> None:
        if span := leave(metadata["meta"]):
            jobs, count = metadata["jobs"], metadata["count"]
            if len(jobs) == 1:
                span.set_attribute(MESSAGE_ID, str(jobs[0].id))
            else:
                span.set_attribute(BATCH_COUNT, count)
            span.end()

    def fail_enqueue(self, metadata: Metadata) -> None:
        if span := leave(metadata["meta"]):
            tell_error(span, metadata)
            span.end()

    # Running: whatever the node's own code happens to be part of is not what the job is part of

    def begin_attempt(self, metadata: Metadata) -> None:
        job: Job = metadata["job"]
        parent = CARRIER.extract(carried(job), Context())
        links = []
        if self.linked:
            sender = trace.get_current_span(parent).get_span_context()
            links = [Link(sender)] if sender.is_valid else []
            parent = Context()
        span = self.tracer.start_span(
            named(PROCESS, job.queue),
            parent,
            kind=SpanKind.CONSUMER,
            attributes=of_attempt(job),
            links=links,
        )
        enter(job, span, parent)

    def end_attempt(self, metadata: Metadata) -> None:
        if span := leave(metadata["job"]):
            tell_end(span, metadata)
            if metadata["state"] == JobState.DISCARDED:
                span.set_status(Status(StatusCode.ERROR, "discarded"))
            span.end()

    def fail_attempt(self, metadata: Metadata) -> None:
        if span := leave(metadata["job"]):
            tell_end(span, metadata)
            tell_error(span, metadata)
            span.end()

    # In a child process the span of the attempt is current, and is told by the node

    def send_to_child(self, metadata: Metadata) -> None:
        CARRIER.inject(metadata["carried"])

    def begin_in_child(self, metadata: Metadata) -> None:
        parent = CARRIER.extract(metadata["carried"], Context())
        enter(metadata["carried"], trace.get_current_span(parent), parent)

    def end_in_child(self, metadata: Metadata) -> None:
        leave(metadata["carried"])


def enter(key: object, span: Span, within: Context) -> None:
    """Make the span the current one, for what this task, and threads it starts, do next."""
    token = context.attach(trace.set_span_in_context(span, within))
    OPEN.set(Open(key, span, token, OPEN.get()))


def leave(key: object) -> Span | None:
    """The span that began with this key, which is current no longer.

    None where it began before anybody listened, or elsewhere: then it is not ours to leave.
    """
    found = OPEN.get()
    if found is None or found.key is not key:
        return None
    OPEN.set(found.outer)
    context.detach(found.token)
    return found.span


def carried(job: Job) -> dict[str, str]:
    """What a job's meta, which may be anything, says of its trace."""
    meta: object = job.meta
    if not isinstance(meta, dict):
        return {}
    return {name: meta[name] for name in CARRIED if isinstance(meta.get(name), str)}


def named(operation: str, queue: str | None) -> str:
    return operation if queue is None else f"{operation} {queue}"[:LONGEST_NAME]


def tell_end(span: Span, metadata: Metadata) -> None:
    span.set_attribute(STATE, str(metadata["state"]))
    span.set_attribute("oban.job.wait", metadata["queue_time"] / 1e9)


def tell_error(span: Span, metadata: Metadata) -> None:
    kind, message = metadata["error_type"], metadata["error_message"]
    span.set_attribute(ERROR_TYPE, kind)
    span.set_status(Status(StatusCode.ERROR, f"{kind}: {message}"))
    span.add_event(
        "exception",
        {
            "exception.type": kind,
            "exception.message": message,
            "exception.stacktrace": metadata["traceback"],
        },
    )
