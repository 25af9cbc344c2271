"""The commands put together, and the edge at which their errors become exit codes."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_group

from oban.cli.failures import report
from oban.running.process import version as oban_version

RUN: Final = "Run"
DATABASE: Final = "Tables"
LOOK_AFTER: Final = "Jobs and queues"

#: Each command or group of them, in the order of the help: the module it lies in, and its panel.
COMMANDS: Final = {
    "start": ("start", RUN),
    "web": ("web", RUN),
    "version": ("version", RUN),
    "install": ("tables", DATABASE),
    "migrate": ("tables", DATABASE),
    "uninstall": ("tables", DATABASE),
    "status": ("status", LOOK_AFTER),
    "top": ("top", LOOK_AFTER),
    "explain": ("explain", LOOK_AFTER),
    "jobs": ("jobs", LOOK_AFTER),
    "queues": ("queues", LOOK_AFTER),
    "limits": ("limits", LOOK_AFTER),
    "cron": ("cron", LOOK_AFTER),
}


class Commands(Mapping[str, Any]):
    """Makes a command when it is asked for: all together take longer than most of them run."""

    def __getitem__(self, name: str) -> Any:
        module, panel = COMMANDS[name]
        found = getattr(import_module(f"oban.cli.{module}"), name)
        alone = typer.Typer(callback=oban)  # a group, in which Typer makes what it is given
        if isinstance(found, typer.Typer):
            alone.add_typer(found, rich_help_panel=panel)
        else:
            alone.command(rich_help_panel=panel)(found)
        return get_group(alone).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class Group(TyperGroup):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = Commands()  # type: ignore[assignment]  # which nobody adds to


app = typer.Typer(
    name="oban",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog="Options may also stand in oban.toml, in pyproject.toml under \\[tool.oban], or in the "
    "environment as OBAN_…; later wins.",
)


def show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"oban {oban_version()}")
        raise typer.Exit


@app.callback()
def oban(
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Job orchestration on the PostgreSQL an application already has.

    oban start --embedded --reload    run jobs on a PostgreSQL of its own
    oban install                      make tables where OBAN_DSN points to
    oban start --queues default:10    run jobs there
    oban jobs list --state retryable  see what failed and is tried again
    oban queues pause mailers         pause a queue on all nodes
    oban top                          watch nodes, queues and what runs
    oban explain 42                   see why a job does not run
    oban web                          see and do all that in a browser
    """


def run(arguments: Sequence[str]) -> int:
    """Carry out one command; return its exit code, with whatever went wrong said on stderr."""
    try:
        # Outside its standalone mode Typer returns the code of an Exit, and raises the rest.
        code = app(list(arguments), prog_name="oban", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001  # this is the edge
        return report(error)
    return code if isinstance(code, int) else 0
