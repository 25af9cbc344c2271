"""`oban jobs`: `list`, `show` and `stack` are here, the others in files of their own."""

import asyncio
from dataclasses import asdict, replace
from typing import Annotated

import typer
from rich.text import Text

from oban.cli.changes import cancel, delete, retry
from oban.cli.database import client
from oban.cli.failures import Failed
from oban.cli.filters import (
    ArgsOption,
    MetaOption,
    PriorityOption,
    QueueOption,
    StateOption,
    TagOption,
    WorkerOption,
    job_filter,
)
from oban.cli.job_table import print_table
from oban.cli.job_view import document, print_job
from oban.cli.options import (
    ConfigOption,
    DsnOption,
    EmbeddedOption,
    JsonOption,
    PrefixOption,
    configure,
)
from oban.cli.stats import stats
from oban.cli.tail import tail
from oban.cli.terminal import print_json, printable, say, show
from oban.configuration import Configuration
from oban.engines.reads import JobFilter
from oban.engines.stacks import ToldStack
from oban.job import Job
from oban.states import JobState

jobs = typer.Typer(
    name="jobs",
    help="List, show, count, follow, retry, cancel and delete jobs.",
    no_args_is_help=True,
)


@jobs.command("list")
def list_jobs(
    *,
    state: StateOption = None,
    queue: QueueOption = None,
    worker: WorkerOption = None,
    tag: TagOption = None,
    args: ArgsOption = None,
    meta: MetaOption = None,
    priority: PriorityOption = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 20,
    before: Annotated[
        int | None,
        typer.Option(metavar="ID", help="Older than this job: the next page of a listing."),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """List jobs, the newest first.

    oban jobs list --queue mailers --state retryable
    oban jobs list --args user_id=42 --limit 5 --json
    """
    loaded = configure(config, dsn, embedded, prefix)
    wanted = job_filter(
        states=state,
        queue=queue,
        worker=worker,
        tags=tag,
        args=args,
        meta=meta,
        priority=priority,
    )
    # One more than is shown tells whether there is a next page.
    wanted = replace(wanted, before_id=before, limit=limit + 1)
    found = asyncio.run(search(loaded, wanted))
    shown = found[:limit]
    if as_json:
        print_json([document(job) for job in shown])
    elif not shown:
        say("no jobs" if wanted == JobFilter(limit=limit + 1) else "no job matches")
    else:
        print_table(shown)
        if len(found) > limit:
            say(("more with ", "dim"), f"--before {shown[-1].id}")


async def search(loaded: Configuration, wanted: JobFilter) -> list[Job]:
    async with client(loaded) as oban:
        return await oban.list_jobs(wanted)


@jobs.command("show")
def show_job(
    *,
    job_id: Annotated[int, typer.Argument(metavar="ID", help="The job's id.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Show all of one job: arguments, times, errors with their tracebacks, recorded result."""
    loaded = configure(config, dsn, embedded, prefix)
    job = asyncio.run(get(loaded, job_id))
    if job is None:
        raise Failed(f"there is no job {job_id}")
    if as_json:
        print_json(document(job, whole=True))
    else:
        print_job(job)


async def get(loaded: Configuration, job_id: int) -> Job | None:
    async with client(loaded) as oban:
        return await oban.get_job(job_id)


@jobs.command("stack")
def show_stack(
    *,
    job_id: Annotated[int, typer.Argument(metavar="ID", help="The job's id.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Show where the code of a running job is just now."""
    loaded = configure(config, dsn, embedded, prefix)

    async def ask() -> tuple[Job | None, ToldStack | None]:
        async with client(loaded) as oban:
            job = await oban.get_job(job_id)
            is_running = job is not None and job.state is JobState.EXECUTING
            return job, await oban.job_stack(job_id) if is_running else None

    job, told = asyncio.run(ask())
    if job is None:
        raise Failed(f"there is no job {job_id}")
    if told is None:
        raise Failed(
            f"job {job_id} is {job.state} and has no stack"
            if job.state is not JobState.EXECUTING
            else f"nobody tells of job {job_id}: its node has died, or hears no notifications"
        )
    if as_json:
        print_json(asdict(told))
    else:
        show(Text(f"job {job_id} on {printable(told.node)}:", "bold"), Text(printable(told.stack)))


for command in (stats, tail, retry, cancel, delete):
    jobs.command()(command)
