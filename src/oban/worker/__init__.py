"""Workers: what `@worker` makes of a class and `@job` of a function, and the registry of them.

`naming` says what a worker is stored under, `options` what its jobs may be given, `arguments` how
a function's arguments are stored, `jobs` how jobs are built and enqueued.
"""

from oban.worker.decorators import Worker, job, worker
from oban.worker.definition import (
    Definition,
    forget,
    private_workers,
    registered,
    worker_named,
)
from oban.worker.hooks import Hooks
from oban.worker.jobs import ClassJobs, FunctionJobs
from oban.worker.naming import require_importable
from oban.worker.options import JobOptions
from oban.worker.signatures import FunctionCalls, FunctionWorker

__all__ = [
    "ClassJobs",
    "Definition",
    "FunctionCalls",
    "FunctionJobs",
    "FunctionWorker",
    "Hooks",
    "JobOptions",
    "Worker",
    "forget",
    "job",
    "private_workers",
    "registered",
    "require_importable",
    "worker",
    "worker_named",
]
