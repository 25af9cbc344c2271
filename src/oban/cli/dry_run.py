"""`oban start --dry-run`: the configuration as resolved, with where each value comes from."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from oban.cli import crontab
from oban.cli.plan import Plan, complete
from oban.cli.terminal import counted, output, print_json, printable, warn
from oban.cli.workers import find_workers
from oban.configuration import Configuration
from oban.dsn import mask_dsn
from oban.errors import ConfigurationError
from oban.part import Part

DEFAULT = "default"
#: Runs of the crontab that are shown.
NEXT = 10


def print_plan(loaded: Configuration, app_dir: Path, *, as_json: bool, attended: bool) -> None:
    """Print what would run; then raise what would keep it from running."""
    problem: ConfigurationError | None = None
    try:
        loaded = complete(loaded, attended=attended)
    except ConfigurationError as error:
        problem = error
    plan = Plan(loaded, app_dir, find_workers(app_dir, loaded))
    if as_json:
        print_json(document(plan, problem))
    else:
        print_tables(plan)
    if problem is not None:
        raise problem


def document(plan: Plan, problem: ConfigurationError | None) -> dict[str, Any]:
    values = resolved(plan.configuration)
    return {
        "configuration": {
            key: {"value": value, "source": source} for key, (value, source) in values.items()
        },
        "app_dir": str(plan.app_dir),
        "workers": list(plan.workers.names),
        "crontab": [crontab.document(each) for each in crontab.entries(plan.configuration)],
        "next_runs": [
            {"at": slot, "name": periodic.name}
            for slot, periodic in crontab.coming(plan.configuration, NEXT)
        ],
        "passed_over": dict(plan.workers.passed_over),
        "warnings": list(plan.warnings()),
        "problem": None if problem is None else str(problem),
    }


def print_tables(plan: Plan) -> None:
    table = Table("Key", "Value", "Source", box=None, pad_edge=False, header_style="bold")
    for key, (value, source) in resolved(plan.configuration).items():
        quiet = "dim" if source == DEFAULT else ""
        shown = Text(printable(shown_value(value)), quiet, overflow="fold")
        table.add_row(Text(printable(key), quiet), shown, Text(source, quiet, overflow="fold"))
    console = output()
    console.print(table)
    console.print()
    names = plan.workers.names
    console.print(Text(counted(len(names), "worker") + f" found in {plan.app_dir}", "bold"))
    for name in names:
        console.print(Text(f"  {name}"), soft_wrap=True)
    if entries := crontab.entries(plan.configuration):
        console.print()
        console.print(crontab.crontab_table(entries, with_last=False))
        console.print()
        console.print(Text("The next runs", "bold"))
        zone = plan.configuration.options.scheduler.timezone
        for slot, periodic in crontab.coming(plan.configuration, NEXT):
            when = crontab.local(slot, periodic.timezone or zone)
            console.print(Text(f"  {when}  {printable(periodic.name)}"), soft_wrap=True)
    for warning in plan.warnings():
        warn(warning)


def resolved(loaded: Configuration) -> dict[str, tuple[object, str]]:
    """Every key with its value, fit to be shown, and its source."""
    values: dict[str, object] = {"dsn": masked(loaded.dsn)}
    values |= dict(flat("", loaded.options)) | dict(flat("pool_", loaded.pool))
    return {key: (value, loaded.sources.get(key, DEFAULT)) for key, value in values.items()}


def flat(path: str, part: Part) -> Iterator[tuple[str, object]]:
    for each in fields(part):
        key, value = path + each.name, getattr(part, each.name)
        match value:
            case Part():
                yield from flat(f"{key}.", value)
            case Mapping():
                for name, inner in value.items():
                    yield from flat(f"{key}.{name}.", inner)
            case _:
                yield key, masked(value) if each.name == "listen_dsn" else value


def masked(dsn: str | None) -> str | None:
    return None if dsn is None else mask_dsn(dsn)


def shown_value(value: object) -> str:
    match value:
        case None:
            return "(none)"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case tuple():
            return ", ".join(map(str, value))
        case _:
            return str(value)
