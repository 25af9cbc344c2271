"""`oban jobs retry`, `cancel` and `delete`: by id, or all that match."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Final

import typer

from oban.cli.confirm import confirm
from oban.cli.database import client, reachable
from oban.cli.failures import FAILED, WrongUsage
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
from oban.cli.options import (
    ConfigOption,
    DsnOption,
    EmbeddedOption,
    JsonOption,
    PrefixOption,
    YesOption,
    configure,
)
from oban.cli.terminal import messages, output, print_json
from oban.configuration import Configuration
from oban.engines.base import Engine
from oban.engines.jobs import Retried
from oban.engines.operation import Operation
from oban.engines.reads import JobFilter
from oban.oban import Oban
from oban.phrases import counted, listed
from oban.states import FINAL, JobState, states_before

#: Jobs changed in one statement: few enough that the rows are not held for long.
BATCH: Final = 1_000
#: Why a unique job was not retried.
CONFLICTED: Final = "a job like it was enqueued meanwhile and has its unique key"
#: Ids read in one statement.
PAGE: Final = 10_000


@dataclass(frozen=True, slots=True)
class Change:
    """One of the verbs, and what a command needs to know about it."""

    name: str
    past: str
    carry_out: Callable[[Engine, Sequence[int]], Awaitable[Retried]]
    #: The states of the jobs that `--all-matching` means when no state is named.
    states: Sequence[JobState]


async def changing(engine: Engine, operation: Operation[list[int]]) -> Retried:
    """Only a retry can be in conflict."""
    return Retried(await engine.execute(operation))


RETRY: Final = Change(
    "retry",
    "retried",
    lambda engine, ids: engine.execute(engine.retry(ids)),
    (JobState.RETRYABLE, JobState.DISCARDED),
)
CANCEL: Final = Change(
    "cancel",
    "cancelled",
    lambda engine, ids: changing(engine, engine.cancel(ids)),
    states_before(JobState.CANCELLED),
)
DELETE: Final = Change(
    "delete",
    "deleted",
    lambda engine, ids: changing(engine, engine.delete(ids)),
    [state for state in JobState if state is not JobState.EXECUTING],
)


@dataclass(slots=True)
class Result:
    """What became of the jobs that were to be changed."""

    wanted: int
    changed: list[int] = field(default_factory=list)
    #: Why a job was not changed, by its id.
    unchanged: dict[int, str] = field(default_factory=dict)


IdsArgument = Annotated[list[int] | None, typer.Argument(metavar="ID", help="The jobs' ids.")]
AllMatchingOption = Annotated[
    bool,
    typer.Option(
        "--all-matching",
        help="All jobs that match the options below, instead of ids.",
    ),
]
Command = Callable[..., None]


def command(change: Change, documentation: str) -> Command:
    """The three commands differ in nothing but the verb."""

    def run(
        *,
        ids: IdsArgument = None,
        all_matching: AllMatchingOption = False,
        yes: YesOption = False,
        as_json: JsonOption = False,
        state: StateOption = None,
        queue: QueueOption = None,
        worker: WorkerOption = None,
        tag: TagOption = None,
        args: ArgsOption = None,
        meta: MetaOption = None,
        priority: PriorityOption = None,
        config: ConfigOption = None,
        dsn: DsnOption = None,
        embedded: EmbeddedOption = False,
        prefix: PrefixOption = None,
    ) -> None:
        wanted = job_filter(
            states=state,
            queue=queue,
            worker=worker,
            tags=tag,
            args=args,
            meta=meta,
            priority=priority,
        )
        check_usage(change, ids or [], wanted, all_matching=all_matching)
        loaded = configure(config, dsn, embedded, prefix)

        # Entered here as well, so that the embedded server stays up while somebody thinks.
        with reachable(loaded):
            chosen: Sequence[int] = ids or []
            if all_matching:
                chosen = asyncio.run(matching(loaded, wanted, change))
                ask(change, chosen, wanted, yes=yes)
            result = asyncio.run(apply(loaded, change, chosen))
        show(change, result, as_json=as_json)
        if result.unchanged and not all_matching:
            raise typer.Exit(FAILED)

    run.__name__ = change.name
    run.__doc__ = documentation
    return run


def check_usage(
    change: Change, ids: Sequence[int], wanted: JobFilter, *, all_matching: bool
) -> None:
    """Nothing happens to many jobs because of a slip of the fingers."""
    filtered = wanted != JobFilter()
    if ids and (all_matching or filtered):
        raise WrongUsage("ids and options that match jobs are both given; give one of them")
    if filtered and not all_matching:
        raise WrongUsage(
            f"to {change.name} every job that matches these options, add --all-matching"
        )
    if not ids and not all_matching:
        raise WrongUsage(f"which jobs to {change.name}? Give ids, or --all-matching")


def ask(change: Change, ids: Sequence[int], wanted: JobFilter, *, yes: bool) -> None:
    if ids:
        states = ", ".join(wanted.states or change.states)
        confirm(f"{change.name.capitalize()} {counted(len(ids), 'job')} ({states})?", yes=yes)


async def matching(loaded: Configuration, wanted: JobFilter, change: Change) -> list[int]:
    """The ids of all jobs that match, read page by page."""
    wanted = replace(wanted, states=wanted.states or list(change.states), limit=PAGE)
    async with client(loaded) as oban:
        return [identity async for page in pages(oban, wanted) for identity in page]


async def pages(oban: Oban, wanted: JobFilter) -> AsyncIterator[list[int]]:
    while page := await oban.engine.execute(oban.engine.search_ids(wanted)):
        yield page
        if len(page) < wanted.limit:
            return
        wanted = replace(wanted, before_id=page[-1])


async def apply(loaded: Configuration, change: Change, ids: Sequence[int]) -> Result:
    """Change the jobs in batches, each a transaction of its own, the oldest first."""
    ordered = sorted(set(ids))
    result = Result(len(ordered))
    if not ordered:
        return result
    from rich.progress import Progress  # takes longer than the other commands of `oban jobs` have

    console = messages()
    few = len(ordered) <= BATCH
    with Progress(
        console=console, transient=True, disable=few or not console.is_terminal
    ) as progress:
        task = progress.add_task(change.name, total=len(ordered))
        async with client(loaded) as oban:
            for start in range(0, len(ordered), BATCH):
                batch = ordered[start : start + BATCH]
                changed = await change.carry_out(oban.engine, batch)
                result.changed += changed.ids
                result.unchanged |= dict.fromkeys(changed.conflicted, CONFLICTED)
                left = set(batch).difference(changed.ids, changed.conflicted)
                result.unchanged |= await reasons(oban, change, left)
                progress.advance(task, len(batch))
    return result


async def reasons(oban: Oban, change: Change, ids: set[int]) -> dict[int, str]:
    """Why these could not be changed, told from how they are now."""
    if not ids:
        return {}
    found = {job.id: job for job in await oban.engine.execute(oban.engine.get(sorted(ids)))}
    return {
        each: refusal(change, found[each].state) if each in found else "does not exist"
        for each in sorted(ids)
    }


def refusal(change: Change, state: JobState) -> str:
    """Finished jobs can be retried and deleted, unless the run that was cancelled goes on."""
    if state in FINAL:
        return f"is {state} already" if change is CANCEL else f"is {state}, and its code still runs"
    return f"is {state} already" if state is JobState.AVAILABLE else f"is {state}"


def show(change: Change, result: Result, *, as_json: bool) -> None:
    if as_json:
        print_json({change.past: result.changed, "unchanged": result.unchanged})
        return
    done, all_of_them = len(result.changed), result.wanted
    of = "" if done == all_of_them else f" of {all_of_them:,}"
    output().print(f"{done:,}{of} {'job' if all_of_them == 1 else 'jobs'} {change.past}")
    for reason, number in Counter(result.unchanged.values()).items():
        ids = [str(each) for each, why in result.unchanged.items() if why == reason]
        messages().print(f"not {change.past}, {reason}: {listed(ids)} ({number:,})", soft_wrap=True)


retry = command(
    RETRY,
    """Run jobs again, now, with at least one attempt left.

    By id any job that does not run: failed, cancelled, completed, or waiting
    for its time. With --all-matching those that failed (retryable, discarded),
    unless --state names others.

    oban jobs retry 41 42
    oban jobs retry --all-matching --queue mailers --state discarded
    """,
)
cancel = command(
    CANCEL,
    """Cancel jobs that are not finished; those that run are asked to stop.

    oban jobs cancel 41 42
    oban jobs cancel --all-matching --tag spring-campaign
    """,
)
delete = command(
    DELETE,
    """Delete jobs that do not run, for good.

    oban jobs delete 41 42
    oban jobs delete --all-matching --worker app.OldWorker
    """,
)
