"""`oban status`: the server, the tables, and how many jobs are where."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from oban import schema
from oban.cli.database import reachable
from oban.cli.failures import Failed, WrongUsage
from oban.cli.job_table import state_text
from oban.cli.options import (
    ConfigOption,
    DsnOption,
    EmbeddedOption,
    JsonOption,
    PrefixOption,
    configure,
)
from oban.cli.queue_table import short_id
from oban.cli.terminal import duration, print_json, printable, relative, show
from oban.dsn import mask_dsn
from oban.engines.commands import Intent
from oban.engines.nodes import KnownProducer
from oban.engines.postgres import PostgresEngine
from oban.engines.reads import JobCount
from oban.phrases import counted
from oban.schema import SchemaStatus
from oban.states import JobState


@dataclass(frozen=True, slots=True)
class Overview:
    dsn: str
    schema: SchemaStatus
    counts: Sequence[JobCount] = ()
    producers: Sequence[KnownProducer] = ()
    #: Seconds that the oldest available job of each queue has waited.
    lags: Mapping[str, float] = field(default_factory=dict)
    commands: Sequence[Intent] = ()
    #: Whether the jobs were counted at all.
    is_counted: bool = True

    @property
    def leader(self) -> str | None:
        """The node that leads, by the heartbeats of those that live."""
        leading = (each for each in self.producers if each.alive and each.meta.get("leader"))
        return next((each.identity.node for each in leading), None)

    def troubles(self, max_lag: float | None) -> list[str]:
        """What an orchestrator should be told by an exit code."""
        if self.schema.problem:
            return [self.schema.problem]
        living = [each for each in self.producers if each.alive]
        found = [] if living else ["no node runs a queue"]
        if living and self.leader is None:
            found.append("no node leads")
        found += [
            f"the oldest available job of queue {queue} has waited {lag:.0f} s"
            for queue, lag in self.lags.items()
            if max_lag is not None and lag > max_lag
        ]
        return found


def status(
    *,
    as_json: JsonOption = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Exit with 1 unless nodes run, one leads, and tables fit."),
    ] = False,
    max_lag: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="With --check: also if an available job has waited longer.",
        ),
    ] = None,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Show the database and its tables, the jobs of each queue by state, and who runs them.

    Counting reads the whole table, which takes a while where there are millions of jobs; with
    --check nothing is counted.
    """
    if max_lag is not None and not check:
        raise WrongUsage("--max-lag goes with --check, which makes an exit code of it")
    loaded = configure(config, dsn, embedded, prefix)
    with reachable(loaded) as database:
        options = loaded.options
        overview = asyncio.run(look(database.dsn, options.prefix, options.name, count=not check))
    if as_json:
        print_json(document(overview))
    else:
        print_overview(overview)
    if check and (troubles := overview.troubles(max_lag)):
        raise Failed("; ".join(troubles))


async def look(dsn: str, prefix: str, name: str, *, count: bool) -> Overview:
    """What can be told; old or missing tables are part of it and no error."""
    found = await schema.status(dsn, prefix)
    if found.tables == "missing":
        return Overview(dsn, found)
    engine = PostgresEngine(dsn, prefix)
    try:
        counts = await engine.execute(engine.counts()) if count else []
        if found.problem:
            return Overview(dsn, found, counts, is_counted=count)
        known = await engine.execute(engine.known_producers())
        # One that was rescued is remembered for a day, and of no interest.
        producers = [each for each in known if each.beat_age is not None or each.running_count]
        queues = {each.queue for each in counts} | {each.identity.queue for each in producers}
        lags = await engine.execute(engine.lags(sorted(queues)))
        commands = await engine.execute(engine.intents(name))
    finally:
        await engine.close()
    return Overview(dsn, found, counts, producers, lags, commands, is_counted=count)


def document(overview: Overview) -> dict[str, Any]:
    return {
        "dsn": mask_dsn(overview.dsn),
        **asdict(overview.schema),
        "queues": by_queue(overview.counts) if overview.is_counted else None,
        "lag": dict(overview.lags),
        "leader": overview.leader,
        "command_count": len(overview.commands),
        "producers": [
            {
                **asdict(each.identity),
                "started_at": each.started_at,
                "running_count": each.running_count,
                "alive": each.alive,
                "beat_age": each.beat_age,
                "meta": each.meta,
            }
            for each in overview.producers
        ],
    }


def by_queue(counts: Sequence[JobCount]) -> dict[str, dict[str, int]]:
    queues: dict[str, dict[str, int]] = {}
    for each in counts:
        queues.setdefault(each.queue, {})[each.state] = each.count
    return queues


def print_overview(overview: Overview) -> None:
    found = overview.schema
    facts = Table.grid(padding=(0, 2))
    for name, value in {
        "server": f"PostgreSQL {found.server_version}",
        "database": f"{found.database}, schema {found.prefix}, at {mask_dsn(overview.dsn)}",
        "tables": tables_text(found),
        "pending": ", ".join(found.pending) if found.tables != "missing" else "",
        "leader": overview.leader or "",
        "commands": commands_text(overview.commands),
        "jobs": "" if overview.is_counted else "not counted; `oban status` without --check does",
    }.items():
        if value:
            facts.add_row(Text(name, "dim"), Text(printable(value), overflow="fold"))
    if found.problem:
        facts.add_row(Text("problem", "bold red"), Text(printable(found.problem), overflow="fold"))
    shown: list[RenderableType] = [facts]
    if found.tables != "missing" and overview.is_counted:
        counts = counts_table(overview.counts, overview.lags) if overview.counts else "no jobs"
        shown += ["", counts]
    if overview.producers:
        shown += ["", producers_table(overview.producers)]
    show(*shown)


def tables_text(found: SchemaStatus) -> str:
    if found.tables == "missing":
        return "none"
    extras = [
        name
        for name, there in (("insert trigger", found.insert_trigger), ("Elixir", found.elixir))
        if there
    ]
    made = "of another Oban, " if found.tables == "foreign" else ""
    withs = f", with {' and '.join(extras)}" if extras else ""
    return f"{made}version {found.version} of {found.latest}{withs}"


def commands_text(commands: Sequence[Intent]) -> str:
    return (
        f"{counted(len(commands), 'command')} to queues, see `oban queues list`" if commands else ""
    )


def counts_table(counts: Sequence[JobCount], lags: Mapping[str, float]) -> Table:
    """A column for each state that occurs, in the order of a job's life."""
    queues = by_queue(counts)
    occurring = {each.state for each in counts}
    order = [*JobState, *sorted(occurring - set(JobState))]
    states = [state for state in order if state in occurring]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("queue", overflow="fold")
    for state in states:
        table.add_column(state_text(state), justify="right", no_wrap=True)
    table.add_column("oldest", justify="right")
    for queue, numbers in queues.items():
        lag = duration(timedelta(seconds=lags[queue])) if queue in lags else ""
        cells = (f"{numbers[state]:,}" if state in numbers else "" for state in states)
        table.add_row(Text(printable(queue)), *cells, lag)
    return table


def producers_table(producers: Sequence[KnownProducer]) -> Table:
    table = Table("node", "queue", "id", box=None, pad_edge=False, header_style="bold")
    table.add_column("running", justify="right")
    for name in ("started", "heartbeat", "signals"):
        table.add_column(name, overflow="fold")
    for each in producers:
        beat = "never" if each.beat_age is None else f"{each.beat_age:.0f}s ago"
        polling = each.meta.get("polling")
        table.add_row(
            Text(printable(each.identity.node)),
            Text(printable(each.identity.queue)),
            short_id(each.identity.uuid),
            f"{each.running_count:,}",
            relative(each.started_at),
            Text(beat if each.alive else f"silent, {beat}", "" if each.alive else "red"),
            Text(f"polling: {polling}" if polling else "listening" if each.alive else ""),
        )
    return table
