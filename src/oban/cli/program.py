"""The commands put together, and the edge at which their errors become exit codes."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from oban.cli.cron import cron
from oban.cli.explain import explain
from oban.cli.failures import report
from oban.cli.jobs import jobs
from oban.cli.limits import limits
from oban.cli.queues import queues
from oban.cli.start import start
from oban.cli.status import status
from oban.cli.tables import install, migrate, uninstall
from oban.cli.version import version
from oban.cli.web import web
from oban.running.process import version as oban_version

app = typer.Typer(
    name="oban",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog="Options may also stand in oban.toml, in pyproject.toml under \\[tool.oban], or in the "
    "environment as OBAN_…; later wins.",
)

RUN = "Run"
DATABASE = "Tables"
LOOK_AFTER = "Jobs and queues"

app.command(rich_help_panel=RUN)(start)
app.command(rich_help_panel=RUN)(web)
app.command(rich_help_panel=RUN)(version)
app.command(rich_help_panel=DATABASE)(install)
app.command(rich_help_panel=DATABASE)(migrate)
app.command(rich_help_panel=DATABASE)(uninstall)
app.command(rich_help_panel=LOOK_AFTER)(status)
app.command(rich_help_panel=LOOK_AFTER)(explain)
app.add_typer(jobs, rich_help_panel=LOOK_AFTER)
app.add_typer(queues, rich_help_panel=LOOK_AFTER)
app.add_typer(limits, rich_help_panel=LOOK_AFTER)
app.add_typer(cron, rich_help_panel=LOOK_AFTER)


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
    oban explain 42                   see why a job does not run
    oban web                          see and do all that in a browser
    """


def main() -> int:
    return run(sys.argv[1:])


def run(arguments: Sequence[str]) -> int:
    """Carry out one command; return its exit code, with whatever went wrong said on stderr."""
    try:
        # Outside its standalone mode Typer returns the code of an Exit, and raises the rest.
        code = app(list(arguments), prog_name="oban", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001  # this is the edge
        return report(error)
    return code if isinstance(code, int) else 0
