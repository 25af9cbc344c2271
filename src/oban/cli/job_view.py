"""All of one job: for a person, or as a document."""

import json
from textwrap import indent
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from oban.cli.job_table import state_text
from oban.cli.terminal import output, plain, printable, relative
from oban.job import JOB_FIELDS, Job
from oban.looking.records import has_recorded, recorded, without_record
from oban.phrases import moment_text

#: The moments of a job's life, in the order in which they come.
TIMELINE: Final = (
    "inserted_at",
    "scheduled_at",
    "attempted_at",
    "completed_at",
    "cancelled_at",
    "discarded_at",
)


def document(job: Job, *, whole: bool = False) -> dict[str, Any]:
    """The columns of a job, and with `whole` what it recorded, decoded."""
    columns = {name: getattr(job, name) for name in JOB_FIELDS}
    return {"id": columns.pop("id"), **columns, **({"recorded": recorded(job)} if whole else {})}


def print_job(job: Job) -> None:
    console = output()
    title = Text.assemble(
        (f"#{job.id} ", "bold"), (printable(job.worker), "bold"), "  ", state_text(job.state)
    )
    console.print(title, soft_wrap=True)
    console.print(facts(job))
    print_value(console, "args", job.args)
    if meta := without_record(job):
        print_value(console, "meta", meta)
    if has_recorded(job):
        print_value(console, "recorded", recorded(job))
    print_timeline(console, job)
    print_errors(console, job)


def facts(job: Job) -> Table:
    node, *producer = [*job.attempted_by, ""]
    rows = {
        "queue": job.queue,
        "priority": str(job.priority),
        "attempt": f"{job.attempt} of {job.max_attempts}",
        "tags": ", ".join(job.tags),
        "attempted by": f"{node} ({producer[0]})" if producer and producer[0] else node,
        "unreadable": str(job.extra.get("unreadable", "")),
    }
    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        if value:
            table.add_row(Text(name, "dim"), Text(printable(value), overflow="fold"))
    return table


def print_value(console: Console, name: str, value: object) -> None:
    """A JSON value, indented; what it holds is never cut."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=plain)
    heading(console, name)
    print_indented(console, text)


def print_timeline(console: Console, job: Job) -> None:
    moments = [
        (name.removesuffix("_at"), moment)
        for name in TIMELINE
        if (moment := getattr(job, name)) is not None
    ]
    table = Table.grid(padding=(0, 2))
    for name, moment in moments:
        table.add_row(Text(f"  {name}"), Text(moment_text(moment)), Text(relative(moment), "dim"))
    heading(console, "timeline")
    console.print(table)


def print_errors(console: Console, job: Job) -> None:
    """Each failed attempt with its traceback. A foreign row may hold anything."""
    kept: object = job.errors
    for error in kept if isinstance(kept, list) else [kept]:
        if isinstance(error, dict):
            about = f"error of attempt {error.get('attempt', '?')} at {error.get('at', '?')}"
            text = str(error.get("error", ""))
        else:
            about, text = "error", str(error)
        heading(console, printable(about), "red")
        print_indented(console, text.rstrip())


def print_indented(console: Console, text: str) -> None:
    console.print(Text(indent(printable(text), "  ")), soft_wrap=True)


def heading(console: Console, name: str, style: str = "bold") -> None:
    console.print()
    console.print(Text(name, style))
