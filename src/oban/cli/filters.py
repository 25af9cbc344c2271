"""Which jobs a command is about, as options."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from oban.cli.failures import WrongUsage
from oban.engines.reads import JobFilter
from oban.states import JobState

PANEL = "Which jobs"

StateOption = Annotated[
    list[JobState] | None,
    typer.Option(
        "--state",
        metavar="STATE",
        help=f"In this state: {', '.join(JobState)}; may be repeated.",
        rich_help_panel=PANEL,
    ),
]
QueueOption = Annotated[
    str | None,
    typer.Option("--queue", metavar="NAME", help="In this queue.", rich_help_panel=PANEL),
]
WorkerOption = Annotated[
    str | None,
    typer.Option("--worker", metavar="NAME", help="Of this worker.", rich_help_panel=PANEL),
]
TagOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tag", metavar="TAG", help="With this tag; repeated, with all.", rich_help_panel=PANEL
    ),
]
ArgsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--args",
        metavar="KEY=VALUE",
        help="With this argument, the value in JSON or as text; may be repeated.",
        rich_help_panel=PANEL,
    ),
]
MetaOption = Annotated[
    list[str] | None,
    typer.Option(
        "--meta", metavar="KEY=VALUE", help="The same for what is in meta.", rich_help_panel=PANEL
    ),
]
PriorityOption = Annotated[
    int | None,
    typer.Option(
        "--priority",
        metavar="PRIORITY",
        min=0,
        max=9,
        help="Of this priority.",
        rich_help_panel=PANEL,
    ),
]


def job_filter(
    *,
    states: Sequence[JobState] | None,
    queue: str | None,
    worker: str | None,
    tags: Sequence[str] | None,
    args: Sequence[str] | None,
    meta: Sequence[str] | None,
    priority: int | None,
) -> JobFilter:
    """What the options ask for; `JobFilter()` when none was given."""
    return JobFilter(
        states=list(states) if states else None,
        queue=queue,
        worker=worker,
        tags=[tag.strip().lower() for tag in tags] if tags else None,
        args=pairs("--args", args),
        meta=pairs("--meta", meta),
        priority=priority,
    )


def pairs(option: str, given: Sequence[str] | None) -> Mapping[str, Any] | None:
    """Read `user_id=42` and `email=a@b.c`: the value as JSON where it is JSON, else as text."""
    if not given:
        return None
    values: dict[str, Any] = {}
    for pair in given:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise WrongUsage(f"{option} is {pair!r}; it is key=value, such as user_id=42")
        values[key] = json_or_text(text)
    return values


def json_or_text(text: str) -> Any:
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)  # Python reads NaN and 1e999, which no JSON holds
    except ValueError:
        return text
    return value
