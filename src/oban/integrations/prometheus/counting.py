"""What happens in this process, counted as it is told."""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.registry import Collector

from oban import telemetry
from oban.integrations.names import Names
from oban.metrics import REST
from oban.telemetry import Metadata
from oban.telemetry.logger import WARNINGS

ID: Final = "oban.prometheus"
#: Seconds, from those that nobody notices to an hour.
BUCKETS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(30.0, 60.0, 300.0, 900.0, 3_600.0),
)
ENDS: Final = ("oban.job.stop", "oban.job.exception")
ENQUEUED: Final = "oban.client.enqueue.stop"


def attach(
    registry: CollectorRegistry | None = None, *, buckets: Sequence[float] = BUCKETS
) -> None:
    """Count what this process enqueues and runs, by all its Obans, in a registry.

    The default one of prometheus_client unless another is given. Attaching again begins anew.
    """
    detach()
    chosen = REGISTRY if registry is None else registry
    counting = Counting(buckets)
    chosen.register(counting)
    ATTACHED.append((chosen, counting))
    telemetry.attach(ID, [*ENDS, ENQUEUED, *WARNINGS, "oban.*.outage"], counting)


def detach() -> bool:
    """Count no longer, and take what was counted out of its registry; false if nothing was."""
    telemetry.detach(ID)
    found = bool(ATTACHED)
    while ATTACHED:
        registry, counting = ATTACHED.pop()
        registry.unregister(counting)
    return found


class Counting(Collector):
    """All that is counted, as one collector."""

    def __init__(self, buckets: Sequence[float]) -> None:
        self.ended = Counter(
            "oban_jobs",
            "Attempts that ended, by what their job became.",
            ["queue", "worker", "state"],
            registry=None,
        )
        self.enqueued = Counter(
            "oban_jobs_enqueued", "Jobs enqueued by this process.", ["queue"], registry=None
        )
        self.durations = Histogram(
            "oban_job_duration_seconds",
            "How long attempts took.",
            ["queue", "worker"],
            buckets=buckets,
            registry=None,
        )
        self.waits = Histogram(
            "oban_job_wait_seconds",
            "How long jobs waited from when they were due to their claim.",
            ["queue"],
            buckets=buckets,
            registry=None,
        )
        self.troubles = Counter(
            "oban_trouble", "Outages of loops, and other trouble.", ["event"], registry=None
        )
        # Apart: what is enqueued may go anywhere, what runs here is in a few queues.
        self.fed = Names()
        self.queues = Names()
        self.workers = Names()

    def __call__(self, name: str, metadata: Metadata) -> None:
        if name == ENQUEUED:
            self.count_enqueued(metadata)
        elif name in ENDS:
            self.count_end(metadata)
        else:
            self.troubles.labels(name).inc()

    def count_enqueued(self, metadata: Metadata) -> None:
        jobs = metadata["jobs"]
        if not jobs:  # a stream, of whose jobs nobody keeps account
            self.enqueued.labels(REST).inc(metadata["count"])
        for queue, count in Tally(job.queue for job in jobs).items():
            self.enqueued.labels(self.fed(queue)).inc(count)

    def count_end(self, metadata: Metadata) -> None:
        job = metadata["job"]
        queue, worker = self.queues(job.queue), self.workers.worker_of(metadata)
        self.ended.labels(queue, worker, str(metadata["state"])).inc()
        self.durations.labels(queue, worker).observe(metadata["duration"] / 1e9)
        self.waits.labels(queue).observe(metadata["queue_time"] / 1e9)

    @property
    def parts(self) -> Sequence[Counter | Histogram]:
        return self.ended, self.enqueued, self.durations, self.waits, self.troubles

    def describe(self) -> Iterable[Metric]:
        """The names, so that a registry refuses to have them twice."""
        return [each for part in self.parts for each in part.describe()]

    def collect(self) -> Iterator[Metric]:
        for part in self.parts:
            yield from part.collect()


#: What counts, and where; one at most.
ATTACHED: Final[list[tuple[CollectorRegistry, Counting]]] = []
