"""Looking at what is enqueued."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final, Unpack

from oban.engines.reads import JobFilter
from oban.job import Job
from oban.oban import Oban
from oban.testing.filters import Filters, Wanted, said
from oban.testing.isolation import instance_of

#: Jobs read at once.
PAGE: Final = 1_000
#: Seconds between two looks.
PAUSE: Final = 0.01
#: Jobs that a message lists.
LISTED: Final = 5


async def all_enqueued(*, oban: Oban | str = "Oban", **filters: Unpack[Filters]) -> list[Job]:
    """The jobs that are available or scheduled and fit the filters, in the order of their ids.

    With a `state` those in that state instead.
    """
    wanted = Wanted.of(filters)
    instance = instance_of(oban)
    found: list[Job] = []
    while True:
        before_id = found[-1].id if found else None
        page = await instance.list_jobs(wanted.query(limit=PAGE, before_id=before_id))
        found += page
        if len(page) < PAGE:
            return found[::-1]


async def assert_enqueued(
    *, oban: Oban | str = "Oban", timeout: float = 0, **filters: Unpack[Filters]
) -> None:
    """Raise AssertionError unless a job that fits is enqueued, now or within `timeout` seconds.

    The message lists what was looked for, and the jobs that come nearest to it.
    """
    __tracebackhide__ = True
    wanted = Wanted.of(filters)
    instance = instance_of(oban)
    if await found_within(timeout, instance, wanted):
        return
    within = f" within {timeout:g} s" if timeout else ""
    raise AssertionError(
        f"no such job was enqueued{within}:\n{wanted}\n{await nearest(instance, wanted)}"
    )


async def refute_enqueued(
    *, oban: Oban | str = "Oban", timeout: float = 0, **filters: Unpack[Filters]
) -> None:
    """Raise AssertionError if a job that fits is enqueued, now or within `timeout` seconds."""
    __tracebackhide__ = True
    wanted = Wanted.of(filters)
    if found := await found_within(timeout, instance_of(oban), wanted):
        raise AssertionError(f"such a job is enqueued:\n{wanted}\nHere it is:\n{line(found)}")


async def found_within(timeout: float, oban: Oban, wanted: Wanted) -> Job | None:
    """The newest job that fits, as soon as there is one."""
    deadline = time.monotonic() + timeout
    while True:
        page = await oban.list_jobs(wanted.query(limit=1, before_id=None))
        if page:
            return page[0]
        rest = deadline - time.monotonic()
        if rest <= 0:
            return None
        await asyncio.sleep(min(PAUSE, rest))


async def nearest(oban: Oban, wanted: Wanted) -> str:
    """Say which jobs there are, of whatever state, those first that miss the least."""
    jobs = await oban.list_jobs(JobFilter(limit=PAGE))
    if not jobs:
        return "There are no jobs at all."
    missing = sorted(((wanted.misses(job), job) for job in jobs), key=lambda each: len(each[0]))
    lines = [f"{line(job)}: other {', '.join(misses)}" for misses, job in missing[:LISTED]]
    count = f"{len(jobs)} newest" if len(jobs) == PAGE else str(len(jobs))
    return "\n".join([f"The nearest of the {count} jobs:", *lines])


def line(job: Job) -> str:
    shown: Mapping[str, Any] = {"args": job.args, "meta": job.meta, "tags": job.tags}
    details = "".join(f", {name} {said(value)}" for name, value in shown.items() if value)
    return (
        f"    #{job.id} {job.worker} is {job.state} in {job.queue}, "
        f"priority {job.priority}{details}"
    )
