"""A worker on its own, as a unit."""

from functools import cache
from typing import Any

from oban.current import CURRENT
from oban.job import Job
from oban.lookup import WorkerFinder
from oban.running.executor import Executor
from oban.running.inline import as_claimed
from oban.running.places import Places
from oban.running.run import Run
from oban.running.threads import Threads


async def process_job(job: Job) -> Any:
    """Run the job's worker once and return what it returns, or raise what it raises.

    Never touches the database. The worker is given the job as after a claim: `args` and `meta` have
    been through JSON, the attempt is counted. `resources` are those the job has. A `def` worker
    runs on a thread as it always does, and one for child processes in one.
    """
    executor = unit_executor()
    claimed = as_claimed(job)
    outer = CURRENT.get()
    CURRENT.set(claimed)
    try:
        return await executor.call(executor.find(claimed), Run(claimed))
    finally:
        CURRENT.set(outer)


@cache
def unit_executor() -> Executor:
    """One for all tests, so that they share its idle threads."""
    return Executor(WorkerFinder(), Places(Threads("oban test")))
