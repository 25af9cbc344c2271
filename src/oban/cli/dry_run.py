"""`oban start --dry-run`: the configuration as resolved, with where each value comes from."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from oban.cli import crontab
from oban.cli.plan import Plan, complete
from oban.cli.terminal import one_line, print_json, printable, show, warn
from oban.cli.workers import find_workers
from oban.configuration import Configuration
from oban.dsn import MASK, mask_dsn
from oban.errors import ConfigurationError
from oban.lookup import WorkerFinder
from oban.part import Part
from oban.phrases import counted

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
        "warnings": list(warnings(plan)),
        "problem": None if problem is None else str(problem),
    }


def warnings(plan: Plan) -> Iterator[str]:
    """Those of a start, and entries of the crontab that this node could not run."""
    yield from plan.warnings()
    finder = WorkerFinder(plan.app_dir, plan.configuration.options.worker_modules)
    yield from crontab.lost(crontab.entries(plan.configuration), finder)


def print_tables(plan: Plan) -> None:
    names = plan.workers.names
    found = Text(counted(len(names), "worker") + f" found in {plan.app_dir}", "bold")
    show(keys_table(plan.configuration), "", found, *(one_line(f"  {name}") for name in names))
    if entries := crontab.entries(plan.configuration):
        zone = plan.configuration.options.scheduler.timezone
        runs = (
            one_line(
                f"  {crontab.local(slot, periodic.timezone or zone)}  {printable(periodic.name)}"
            )
            for slot, periodic in crontab.coming(plan.configuration, NEXT)
        )
        table = crontab.crontab_table(entries, with_last=False)
        show("", table, "", Text("The next runs", "bold"), *runs)
    for warning in warnings(plan):
        warn(warning)


def keys_table(loaded: Configuration) -> Table:
    """Keys are whole; values and sources are cut where the terminal is too narrow."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Key", no_wrap=True)
    table.add_column("Value")
    table.add_column("Source")
    for key, (value, source) in resolved(loaded).items():
        cells = [one_line(each) for each in (key, shown_value(value), near(source))]
        table.add_row(*cells, style="dim" if source == DEFAULT else "")
    return table


def near(source: str) -> str:
    """A file that lies here, by its name alone."""
    here = f"{Path.cwd()}{os.sep}"
    return source.removeprefix(here)


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
            case tuple() if any(isinstance(inner, Part) for inner in value):
                yield key, tuple(map(given, value))
            case Mapping():
                for name, inner in value.items():
                    yield from flat(f"{key}.{name}.", inner)
            case tuple() if each.name == "encryption_keys":
                yield key, (MASK,) * len(value)
            case _:
                yield key, masked(value) if each.name == "listen_dsn" else value


def given(part: Part) -> dict[str, object]:
    """The options of one part of a list, without those that say nothing."""
    values = ((each.name, getattr(part, each.name)) for each in fields(part))
    return {name: value for name, value in values if value is not None}


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
            return ", ".join(map(shown_value, value))
        case {"worker": worker, "expr": expr}:  # an entry of the crontab, which has its own table
            return f"{worker} {expr}"
        case _:
            return str(value)
