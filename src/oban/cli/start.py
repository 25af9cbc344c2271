"""`oban start`: run a node in the foreground."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Final

import typer

from oban.cli.announcer import Announcer
from oban.cli.database import reachable
from oban.cli.dry_run import print_plan
from oban.cli.failures import WrongUsage, report
from oban.cli.health import Health, parse_address
from oban.cli.logs import LogFormat, LogLevel, configure_logging
from oban.cli.node import run_node
from oban.cli.options import (
    ConfigOption,
    DsnOption,
    EmbeddedOption,
    JsonOption,
    PrefixOption,
    configure,
)
from oban.cli.plan import Plan, complete
from oban.cli.processes import Limits, Parent, own_command, process_count
from oban.cli.reload import run_reloading
from oban.cli.signals import StopSignals, leave
from oban.cli.terminal import attended
from oban.cli.watching import Watched
from oban.cli.web import check_web_address
from oban.cli.workers import application_folder, find_workers, make_importable
from oban.configuration import EMBEDDED, Configuration

NODE: Final = "Node"
CODE: Final = "Code"
LOGS: Final = "Logs"


def start(
    *,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
    pool_min_size: Annotated[
        int | None,
        typer.Option(help="Connections to keep open for enqueueing.", rich_help_panel=NODE),
    ] = None,
    pool_max_size: Annotated[
        int | None,
        typer.Option(help="Connections to open at most for it.", rich_help_panel=NODE),
    ] = None,
    queues: Annotated[
        str | None,
        typer.Option(
            metavar="NAME:LIMIT,…",
            help="The queues to run, as default:10,mailers:5. \\[OBAN_QUEUES]",
            rich_help_panel=NODE,
        ),
    ] = None,
    node: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What this node is called, by default the host's name. \\[OBAN_NODE]",
            rich_help_panel=NODE,
        ),
    ] = None,
    shutdown_grace_period: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="How long running jobs are waited for when stopping.",
            rich_help_panel=NODE,
        ),
    ] = None,
    processes: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Run so many processes, each with these queues and limits; auto: one per core.",
            rich_help_panel=NODE,
        ),
    ] = None,
    max_memory: Annotated[
        int | None,
        typer.Option(
            metavar="MIB",
            min=1,
            help="With --processes: replace a process that occupies more.",
            rich_help_panel=NODE,
        ),
    ] = None,
    max_jobs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="With --processes: replace a process that has run so many jobs.",
            rich_help_panel=NODE,
        ),
    ] = None,
    health_port: Annotated[
        str | None,
        typer.Option(
            metavar="PORT",
            help="Answer HTTP at /ready and /live there, for an orchestrator.",
            rich_help_panel=NODE,
        ),
    ] = None,
    web_port: Annotated[
        str | None,
        typer.Option(
            metavar="PORT",
            help="Serve the dashboard there; HOST:PORT for others, whom OBAN_WEB_USERS names.",
            rich_help_panel=NODE,
        ),
    ] = None,
    app_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where the application's code lies, by default here.",
            rich_help_panel=CODE,
        ),
    ] = None,
    modules: Annotated[
        str | None,
        typer.Option(
            "--modules",
            "--worker-modules",
            metavar="MODULE,…",
            help="Take workers only from these modules or packages.",
            rich_help_panel=CODE,
        ),
    ] = None,
    reload: Annotated[
        bool,
        typer.Option("--reload", help="Restart when code changes.", rich_help_panel=CODE),
    ] = False,
    log_level: Annotated[
        LogLevel,
        typer.Option(
            case_sensitive=False,
            metavar="LEVEL",
            help="debug, info, warning, error or critical.",
            rich_help_panel=LOGS,
        ),
    ] = LogLevel.INFO,
    log_format: Annotated[
        LogFormat | None,
        typer.Option(
            case_sensitive=False,
            metavar="FORMAT",
            help="json or text; by default text on a terminal, JSON elsewhere.",
            rich_help_panel=LOGS,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would run, and from where; connect nowhere."),
    ] = False,
    as_json: JsonOption = False,
    cron_modules: Annotated[str | None, typer.Option(hidden=True)] = None,
    cron_paths: Annotated[str | None, typer.Option(hidden=True)] = None,
    report_to: Annotated[int | None, typer.Option(hidden=True)] = None,
    parent: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run queues until told to stop.

    Finds the application's workers by their decorators, and imports them.
    SIGTERM or Ctrl-C stops when the running jobs are done or the grace period
    is over, and what is left goes back to its queue; a second Ctrl-C stops at
    once.

    oban start --embedded --reload             for development
    oban start --queues default:10,mailers:5   on the database that OBAN_DSN names
    oban start --queues default:10 --processes auto --health-port 8080
    """
    count = 1 if processes is None else process_count(processes)
    if health_port is not None:
        parse_address(health_port)
    if web_port is not None:
        check_web_address(web_port)
        if processes is not None:
            raise WrongUsage("--web-port is for one process; run `oban web` beside --processes")
    if reload and processes is not None:
        raise WrongUsage("--reload and --processes are both given; give one of them")
    if processes is None and report_to is None and (max_memory or max_jobs):
        raise WrongUsage("--max-memory and --max-jobs need --processes, whose parent replaces them")
    if as_json and not dry_run:
        raise WrongUsage("--json goes with --dry-run; for logs there is --log-format json")
    for source, text in (("--queues", queues), ("OBAN_QUEUES", os.environ.get("OBAN_QUEUES"))):
        refuse_blanks(source, text or "")
    loaded = configure(
        config,
        dsn,
        embedded,
        prefix,
        queues=queues,
        node=node,
        pool_min_size=pool_min_size,
        pool_max_size=pool_max_size,
        shutdown_grace_period=shutdown_grace_period,
        worker_modules=modules,
        cron_modules=cron_modules,
        cron_paths=cron_paths,
    )
    folder = application_folder(app_dir)
    if dry_run:
        make_importable(folder)
        print_plan(loaded, folder, as_json=as_json, attended=attended())
        return
    chosen = complete(loaded, attended=attended())
    if reload:
        raise typer.Exit(run_reloading(folder, chosen, quick=shutdown_grace_period is None))
    form = log_format or LogFormat.fitting()
    if processes is not None:
        configure_logging(log_level, form)
        limits = Limits(max_memory, max_jobs)
        # Claimed here as well, the embedded server does not stop and start with each child.
        with reachable(chosen) if chosen.dsn == EMBEDDED else nullcontext():
            parent_of = Parent(count, own_command(), limits, Announcer(form))
            raise typer.Exit(parent_of.run(health_port))

    def watched() -> Watched:
        health = None if health_port is None else Health(health_port)
        return Watched(health, report_to, count_jobs=max_jobs is not None, web=web_port)

    run(chosen, folder, log_level, form, parent=parent, open_watched=watched)


def refuse_blanks(source: str, text: str) -> None:
    """A blank in a queue's name is a slip: a limit stands after a colon, a name after a comma."""
    for item in text.split(","):
        name = item.rpartition(":")[0] or item
        if len(words := name.split()) > 1:
            limit = words[-1].isdecimal() and name == item
            meant = f"{' '.join(words[:-1])}:{words[-1]}" if limit else ",".join(words)
            raise WrongUsage(
                f"{source} names a queue {name.strip()!r}; did you mean {meant}? "
                "(a name that has blanks can be given in oban.toml)"
            )


def run(
    chosen: Configuration,
    folder: Path,
    level: LogLevel,
    log_format: LogFormat,
    *,
    parent: int | None,
    open_watched: Callable[[], Watched],
) -> None:
    """Run the node; the process ends here, whatever its code may still do."""
    signals = StopSignals()
    code = 0
    try:
        signals.listen()
        if parent is not None:
            end_with(parent)
        configure_logging(level, log_format)
        watched = open_watched()
        make_importable(folder)
        plan = Plan(chosen, folder, find_workers(folder, chosen))
        announcer = Announcer(log_format)
        for warning in plan.warnings():
            announcer.warn(warning)
        if plan.embedded:
            announcer.tell("oban.node.embedded", EMBEDDED_NOTE, because=chosen.dsn_source)
        with reachable(chosen) as database:
            signals.release = database.release
            run_node(plan, database.dsn, signals, announcer, watched)
    except KeyboardInterrupt as error:
        code = 0 if signals.first is not None else report(error)
    except BaseException as error:  # noqa: BLE001  # the process ends here with what there is to say
        code = report(error)
    leave(code)


EMBEDDED_NOTE: Final = (
    "using the embedded PostgreSQL, a private server for development; its tables are kept up to "
    "date"
)


def end_with(parent: int) -> None:
    """Stop when the process that watches our code is gone, however it ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="oban parent", daemon=True).start()
