"""`oban jobs tail`: jobs as they end, a line each."""

import asyncio
import json
import select
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from oban.cli.database import client
from oban.cli.failures import WrongUsage, forget_stdout
from oban.cli.filters import (
    PANEL,
    ArgsOption,
    MetaOption,
    PriorityOption,
    QueueOption,
    StateOption,
    TagOption,
    WorkerOption,
    pairs,
)
from oban.cli.following import ENDS, MOST_FOUND, Ended, Follower, ended_at, failed_at
from oban.cli.job_table import state_text
from oban.cli.job_view import document
from oban.cli.options import (
    ConfigOption,
    DsnOption,
    EmbeddedOption,
    JsonOption,
    PrefixOption,
    configure,
)
from oban.cli.terminal import output, plain, printable, say, warn
from oban.configuration import Configuration
from oban.engines.browsing import JobSearch, PathValue
from oban.errors import DatabaseError
from oban.job import Job
from oban.phrases import span_text
from oban.states import JobState

#: Seconds between two looks.
PAUSE: Final = 1.0

RanOnOption = Annotated[
    str | None,
    typer.Option(
        "--node",
        metavar="NAME",
        help="Of which the last attempt ran on this node.",
        rich_help_panel=PANEL,
    ),
]


def tail(
    *,
    state: StateOption = None,
    queue: QueueOption = None,
    worker: WorkerOption = None,
    node: RanOnOption = None,
    tag: TagOption = None,
    args: ArgsOption = None,
    meta: MetaOption = None,
    priority: PriorityOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Follow jobs as they end, and as they fail, until told to stop.

    oban jobs tail --queue mailers --state retryable --state discarded
    oban jobs tail --args user_id=42 --json
    """
    wanted = JobSearch(
        queue=queue,
        worker=worker,
        node=node,
        tags=tuple(each.strip().lower() for each in tag or ()),
        priority=priority,
        paths=(*paths("args", args), *paths("meta", meta)),
    )
    states = clean_states(state)
    loaded = configure(config, dsn, embedded, prefix)
    try:
        asyncio.run(follow(loaded, wanted, states, as_json=as_json))
    except KeyboardInterrupt:  # the usual end
        pass
    except BrokenPipeError:  # the other one: who read it has seen enough
        forget_stdout()


def clean_states(given: Sequence[JobState] | None) -> Sequence[JobState]:
    if wrong := next((each for each in given or () if each not in ENDS), None):
        raise WrongUsage(
            f"--state is {wrong}, which is no end of a run; it is one of {', '.join(ENDS)}"
        )
    return list(dict.fromkeys(given or ENDS))


def paths(name: Any, given: Sequence[str] | None) -> list[PathValue]:
    """Values as the text that the database makes of them. Raises WrongUsage for a list."""
    found = []
    for key, value in (pairs(f"--{name}", given) or {}).items():
        if value is None or isinstance(value, list | dict):
            raise WrongUsage(
                f"--{name} {key} is {json.dumps(value)}; it is a text, a number, true or false"
            )
        text = value if isinstance(value, str) else json.dumps(value)
        found.append(PathValue(name, (key,), text))
    return found


async def follow(
    loaded: Configuration, wanted: JobSearch, states: Sequence[JobState], *, as_json: bool
) -> None:
    async with client(loaded) as oban:
        session = oban.engine.session("oban jobs tail")
        follower = Follower(oban.engine, session, wanted, states)
        try:
            await follower.begin()
            say(("jobs that end from now on; Ctrl-C stops", "dim"))
            await look_again(follower, as_json=as_json)
        finally:
            await session.close()


async def look_again(follower: Follower, *, as_json: bool) -> None:
    is_lost = False
    while True:
        await asyncio.sleep(PAUSE)
        if is_left():
            raise BrokenPipeError
        try:
            ended = await follower.look()
        except DatabaseError as error:
            if not is_lost:
                told = " ".join(str(error).split())
                warn(f"{told}; trying again until it is back")
            is_lost = True
            continue
        if is_lost:
            say("the database is back; what ended meanwhile is told now")
            is_lost = False
        tell(ended, as_json=as_json)


def is_left() -> bool:
    """Whether nobody reads our output any more, which else is noticed with the next line."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def tell(ended: Ended, *, as_json: bool) -> None:
    """A line each; what was left out is said before them, since it ended before them."""
    for state, count in ended.more.items():
        least = "at least " if count + len(ended.jobs) >= MOST_FOUND else ""
        left_out = Text(f"… {least}{count:,} more {state}", "dim")
        say(left_out) if as_json else output().print(left_out, soft_wrap=True)
    if as_json:
        sys.stdout.writelines(json.dumps(fields(job), default=plain) + "\n" for job in ended.jobs)
    else:
        print_lines(ended.jobs)
    sys.stdout.flush()


def print_lines(jobs: Sequence[Job]) -> None:
    """Cut where the terminal ends, whole where there is none."""
    console = output()
    for job in jobs:
        console.print(
            line(job),
            no_wrap=True,
            overflow="ellipsis" if console.is_terminal else "ignore",
            crop=console.is_terminal,
        )


def line(job: Job) -> Text:
    told = times(job)
    ran = [(f"  ran {span_text(told['ran'])}", "dim")] if told["ran"] is not None else []
    waited = [(f"  waited {span_text(told['waited'])}", "dim")] if told["waited"] else []
    error = last_error(job)
    return Text.assemble(
        (f"{ended_at(job):%H:%M:%S.%f}"[:-3], "dim"),
        " ",
        state_text(job.state),
        " " * (9 - len(job.state)),
        (f" {job.id} ", "bold"),
        printable(f" {job.worker}  {job.queue}").replace("\n", " "),
        f"  {job.attempt}/{job.max_attempts}",
        *ran,
        *waited,
        (f"  {printable(error)}", "red") if error else "",
    )


def fields(job: Job) -> Mapping[str, Any]:
    """As `oban jobs list` has it, with the moment that it is told for, and its times."""
    return {**document(job), "ended_at": ended_at(job), **times(job)}


def times(job: Job) -> dict[str, float | None]:
    """How long its last attempt ran, and waited to begin, in seconds.

    Of what was cancelled while it waited there is no such attempt; when one that failed was due is
    not known any more, since it is due again.
    """
    began, due = job.attempted_at, job.scheduled_at
    if began is None or (job.state == JobState.CANCELLED and not ended_itself(job)):
        return {"ran": None, "waited": None}
    waited = (began - due).total_seconds() if due is not None and due <= began else None
    return {"ran": max(0.0, (ended_at(job) - began).total_seconds()), "waited": waited}


def ended_itself(job: Job) -> bool:
    """Whether its own run cancelled it, which keeps the reason at that moment."""
    at = failed_at(job)
    return at is not None and abs(ended_at(job) - at) < timedelta(milliseconds=1)


def last_error(job: Job) -> str:
    """The last line of the error of the attempt that is told. A foreign row may hold anything."""
    kept: object = job.errors
    last = kept[-1] if isinstance(kept, list) and kept else None
    if not isinstance(last, dict) or last.get("attempt") != job.attempt:
        return ""
    lines = str(last.get("error", "")).strip().splitlines()
    return lines[-1].strip() if lines and job.state != JobState.COMPLETED else ""
