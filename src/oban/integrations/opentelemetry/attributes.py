"""What spans and measurements say of jobs, in the words of the semantic conventions.

https://opentelemetry.io/docs/specs/semconv/messaging/: a queue is a destination, a job a message.
What they have no word for begins with `oban.job`.
"""

from collections.abc import Sequence
from typing import Final

from oban.job import Job

Attributes = dict[str, str | int | float]

SEND: Final = "send"
PROCESS: Final = "process"
SYSTEM: Final = "messaging.system"
OPERATION: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
MESSAGE_ID: Final = "messaging.message.id"
BATCH_COUNT: Final = "messaging.batch.message_count"
ERROR_TYPE: Final = "error.type"
WORKER: Final = "oban.job.worker"
STATE: Final = "oban.job.state"


def of_operation(name: str) -> Attributes:
    return {SYSTEM: "oban", OPERATION: name, OPERATION_TYPE: name}


def common_queue(jobs: Sequence[Job]) -> str | None:
    """The queue of all of them, None where they have several or there are none."""
    queues = {job.queue for job in jobs}
    return queues.pop() if len(queues) == 1 else None


def common_worker(jobs: Sequence[Job]) -> str | None:
    workers = {job.worker for job in jobs}
    return workers.pop() if len(workers) == 1 else None


def of_sent(jobs: Sequence[Job]) -> Attributes:
    """What they have in common."""
    told = of_operation(SEND)
    if queue := common_queue(jobs):
        told[DESTINATION] = queue
    if worker := common_worker(jobs):
        told[WORKER] = worker
    return told


def of_attempt(job: Job) -> Attributes:
    return {
        **of_operation(PROCESS),
        DESTINATION: job.queue,
        MESSAGE_ID: str(job.id),
        WORKER: job.worker,
        "oban.job.attempt": job.attempt,
        "oban.job.max_attempts": job.max_attempts,
        "oban.job.priority": job.priority,
    }
