"""`oban status`: the server, the tables, and how many jobs are where."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from oban import schema
from oban.cli.database import reachable
from oban.cli.job_table import state_text
from oban.cli.options import (
    ConfigOption,
    DsnOption,
    EmbeddedOption,
    JsonOption,
    PrefixOption,
    configure,
)
from oban.cli.terminal import output, print_json, printable, relative
from oban.dsn import mask_dsn
from oban.engines.postgres import PostgresEngine
from oban.engines.values import JobCount, KnownProducer
from oban.job import JobState
from oban.schema import SchemaStatus


@dataclass(frozen=True, slots=True)
class Overview:
    dsn: str
    schema: SchemaStatus
    counts: Sequence[JobCount] = ()
    producers: Sequence[KnownProducer] = ()


def status(
    as_json: JsonOption = False,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Show the database, the version of the tables, and the jobs of each queue by state.

    Counting reads the whole table, which takes a while where there are millions of jobs.
    """
    loaded = configure(config, dsn, embedded, prefix)
    with reachable(loaded) as database:
        overview = asyncio.run(look(database.dsn, loaded.options.prefix))
    if as_json:
        print_json(document(overview))
    else:
        print_overview(overview)


async def look(dsn: str, prefix: str) -> Overview:
    """What can be told; old or missing tables are part of it and no error."""
    found = await schema.status(dsn, prefix)
    if found.tables == "missing":
        return Overview(dsn, found)
    engine = PostgresEngine(dsn, prefix)
    try:
        counts = await engine.execute(engine.counts())
        producers = await engine.execute(engine.known_producers()) if not found.problem else []
    finally:
        await engine.close()
    return Overview(dsn, found, counts, producers)


def document(overview: Overview) -> dict[str, Any]:
    return {
        "dsn": mask_dsn(overview.dsn),
        **asdict(overview.schema),
        "queues": by_queue(overview.counts),
        "producers": [
            {
                **asdict(each.identity),
                "started_at": each.started_at,
                "running_count": each.running_count,
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
    console = output()
    found = overview.schema
    facts = Table.grid(padding=(0, 2))
    for name, value in {
        "server": f"PostgreSQL {found.server_version}",
        "database": f"{found.database}, schema {found.prefix}, at {mask_dsn(overview.dsn)}",
        "tables": tables_text(found),
        "pending": ", ".join(found.pending) if found.tables != "missing" else "",
    }.items():
        if value:
            facts.add_row(Text(name, "dim"), Text(printable(value), overflow="fold"))
    if found.problem:
        facts.add_row(Text("problem", "bold red"), Text(printable(found.problem), overflow="fold"))
    console.print(facts)
    if found.tables != "missing":
        console.print()
        console.print(counts_table(overview.counts) if overview.counts else "no jobs")
    if overview.producers:
        console.print()
        console.print(producers_table(overview.producers))


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


def counts_table(counts: Sequence[JobCount]) -> Table:
    """A column for each state that occurs, in the order of a job's life."""
    queues = by_queue(counts)
    occurring = {each.state for each in counts}
    order = [*JobState, *sorted(occurring - set(JobState))]
    states = [state for state in order if state in occurring]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("queue", overflow="fold")
    for state in states:
        table.add_column(state_text(state), justify="right", no_wrap=True)
    for queue, numbers in queues.items():
        cells = (f"{numbers[state]:,}" if state in numbers else "" for state in states)
        table.add_row(Text(printable(queue)), *cells)
    return table


def producers_table(producers: Sequence[KnownProducer]) -> Table:
    table = Table("node", "queue", box=None, pad_edge=False, header_style="bold")
    table.add_column("running", justify="right")
    table.add_column("started")
    for each in producers:
        table.add_row(
            Text(printable(each.identity.node)),
            Text(printable(each.identity.queue)),
            f"{each.running_count:,}",
            relative(each.started_at),
        )
    return table
