"""How many jobs are sent and run, and how long that takes."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from opentelemetry import metrics
from opentelemetry.metrics import MeterProvider

from oban.integrations.names import Names
from oban.integrations.opentelemetry.attributes import (
    DESTINATION,
    ERROR_TYPE,
    PROCESS,
    SEND,
    STATE,
    WORKER,
    Attributes,
    common_queue,
    of_operation,
)
from oban.metrics import REST
from oban.telemetry import Metadata

#: Seconds: what the conventions ask for, and on to an hour, since jobs take longer than requests.
BOUNDARIES: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(30.0, 60.0, 300.0, 900.0, 3_600.0),
)


class Measuring:
    def __init__(self, provider: MeterProvider | None) -> None:
        meter = metrics.get_meter("oban", meter_provider=provider)
        self.sent = meter.create_counter(
            "messaging.client.sent.messages", "{message}", "Jobs enqueued."
        )
        self.sending = meter.create_histogram(
            "messaging.client.operation.duration",
            "s",
            "How long enqueueing took.",
            explicit_bucket_boundaries_advisory=BOUNDARIES,
        )
        self.consumed = meter.create_counter(
            "messaging.client.consumed.messages", "{message}", "Attempts that ended."
        )
        self.processing = meter.create_histogram(
            "messaging.process.duration",
            "s",
            "How long attempts took.",
            explicit_bucket_boundaries_advisory=BOUNDARIES,
        )
        self.waiting = meter.create_histogram(
            "oban.job.wait.duration",
            "s",
            "How long jobs waited from when they were due to their claim.",
            explicit_bucket_boundaries_advisory=BOUNDARIES,
        )
        # Apart: what is enqueued may go anywhere, what runs here is in a few queues.
        self.fed = Names()
        self.queues = Names()
        self.workers = Names()
        self.handlers: Mapping[str, Callable[[Metadata], None]] = {
            "oban.client.enqueue.stop": self.end_enqueue,
            "oban.client.enqueue.exception": self.end_enqueue,
            "oban.job.stop": self.end_attempt,
            "oban.job.exception": self.end_attempt,
        }

    def __call__(self, name: str, metadata: Metadata) -> None:
        self.handlers[name](metadata)

    def end_enqueue(self, metadata: Metadata) -> None:
        jobs = metadata["jobs"]
        told = {**of_operation(SEND), **error_in(metadata)}
        counts = Counter(self.fed(job.queue) for job in jobs)
        if not jobs and metadata.get("count"):
            counts[REST] = metadata["count"]  # a stream, of whose jobs nobody keeps account
        for queue, count in counts.items():
            self.sent.add(count, {**told, DESTINATION: queue})
        common = common_queue(jobs)
        destination = REST if common is None else self.fed(common)
        self.sending.record(metadata["duration"] / 1e9, {**told, DESTINATION: destination})

    def end_attempt(self, metadata: Metadata) -> None:
        job = metadata["job"]
        where: Attributes = {
            **of_operation(PROCESS),
            DESTINATION: self.queues(job.queue),
            WORKER: self.workers.worker_of(metadata),
        }
        told = {**where, STATE: str(metadata["state"]), **error_in(metadata)}
        self.consumed.add(1, told)
        self.processing.record(metadata["duration"] / 1e9, told)
        self.waiting.record(metadata["queue_time"] / 1e9, where)


def error_in(metadata: Metadata) -> Attributes:
    kind = metadata.get("error_type")
    return {} if kind is None else {ERROR_TYPE: str(kind)}
