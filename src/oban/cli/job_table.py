"""Jobs as rows of a table."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from rich.table import Table
from rich.text import Text

from oban.cli.terminal import PIPE_WIDTH, one_line, output, printable, relative, show
from oban.job import Job
from oban.states import JobState

#: How the states look, here and wherever else one is named.
STYLES: Final[Mapping[str, str]] = {
    JobState.AVAILABLE: "cyan",
    JobState.SCHEDULED: "blue",
    JobState.SUSPENDED: "dim",
    JobState.EXECUTING: "bold",
    JobState.RETRYABLE: "yellow",
    JobState.COMPLETED: "green",
    JobState.CANCELLED: "magenta",
    JobState.DISCARDED: "red",
}
#: Characters of the arguments that are shown at most, however wide the terminal.
MOST_ARGS: Final = 120


def print_table(jobs: Sequence[Job]) -> None:
    """One line each. Arguments give way where it is too narrow, on a terminal workers as well."""
    gives_way = {"args"} if output().width >= PIPE_WIDTH else {"args", "worker"}
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("id", justify="right", no_wrap=True)
    for name in ("state", "queue", "worker", "attempt", "when", "args"):
        table.add_column(name, no_wrap=name not in gives_way, overflow="ellipsis")
    for job in jobs:
        table.add_row(
            str(job.id),
            state_text(job.state),
            one_line(job.queue),
            one_line(job.worker),
            f"{job.attempt}/{job.max_attempts}",
            relative(moment_of(job)),
            one_line(args_text(job.args)),
        )
    show(table)


def state_text(state: str) -> Text:
    """A state that a newer package brought is shown as it is."""
    return Text(printable(state), STYLES.get(state, ""))


def args_text(args: object) -> str:
    """`user_id=42 email="a@b.c"`: shorter than JSON, and as easy to read."""
    if not isinstance(args, dict):
        return shortened(json.dumps(args, ensure_ascii=False))
    return shortened(
        " ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in args.items())
    )


def shortened(text: str) -> str:
    return text if len(text) <= MOST_ARGS else f"{text[: MOST_ARGS - 1]}…"


def moment_of(job: Job) -> datetime | None:
    """The time that says most about a job in its state."""
    match job.state:
        case JobState.EXECUTING:
            return job.attempted_at
        case JobState.COMPLETED:
            return job.completed_at
        case JobState.CANCELLED:
            return job.cancelled_at
        case JobState.DISCARDED:
            return job.discarded_at
        case _:
            return job.scheduled_at
