"""`oban jobs stats`: how many jobs there are of each kind, and how long they took."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from oban.cli.database import client
from oban.cli.failures import WrongUsage
from oban.cli.filters import PANEL, QueueOption, WorkerOption
from oban.cli.job_table import STYLES
from oban.cli.options import (
    ConfigOption,
    DsnOption,
    EmbeddedOption,
    JsonOption,
    PrefixOption,
    configure,
    parse_length,
)
from oban.cli.terminal import one_line, print_json, printable, say, show
from oban.errors import InvalidOption
from oban.metrics import Quantiles, Stat, path_of
from oban.phrases import counted
from oban.states import JobState


def stats(
    *,
    by: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="worker, queue, node, state, or a path into args or meta: args.tenant_id.",
        ),
    ] = "worker",
    state: Annotated[
        JobState | None,
        typer.Option("--state", metavar="STATE", help="In this state.", rich_help_panel=PANEL),
    ] = None,
    queue: QueueOption = None,
    worker: WorkerOption = None,
    node: Annotated[
        str | None,
        typer.Option(
            "--node", metavar="NAME", help="Run last on this node.", rich_help_panel=PANEL
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Inserted in this last time: 90s, 30m, 2h or 7d.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many groups at most.")] = 50,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Count the jobs in the table, and tell how long they waited and took.

    oban jobs stats --by queue --since 1d
    oban jobs stats --by args.tenant_id --worker app.Export --limit 10
    """
    try:
        path_of(by)
    except InvalidOption as error:
        raise WrongUsage(f"--by: {error}") from None
    reach = parse_since(since)
    loaded = configure(config, dsn, embedded, prefix)

    async def look() -> list[Stat]:
        async with client(loaded) as oban:
            return await oban.stats(
                by,
                since=reach,
                # One more than is shown tells whether there are others.
                limit=min(limit + 1, 10_000),
                queue=queue,
                worker=worker,
                node=node,
                state=None if state is None else str(state),
            )

    found = asyncio.run(look())
    shown = found[:limit]
    if as_json:
        print_json([asdict(each) for each in shown])
    elif not shown:
        is_filtered = any(each is not None for each in (state, queue, worker, node, since))
        say("no job matches" if is_filtered else "no jobs")
    else:
        show(table_of(by, shown))
        if len(found) > limit:
            say(("there are more: the first ", "dim"), counted(limit, "group"))


def parse_since(text: str | None) -> float | None:
    length = None if text is None else parse_length(text)
    if text is not None and length is None:
        raise WrongUsage(f"--since is {text!r}; it is a length as 90s, 30m, 2h or 7d")
    return length


def table_of(by: str, found: list[Stat]) -> Table:
    """One line each, unless it is too narrow for the states: those go on in further ones."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(printable(by), no_wrap=True, overflow="ellipsis")
    table.add_column("jobs", justify="right", no_wrap=True)
    for name in ("waited", "p95", "took", "p95"):
        table.add_column(name, justify="right", no_wrap=True)
    if by != "state":
        table.add_column("states", overflow="fold", min_width=18)
    for each in found:
        table.add_row(
            Text("none", "dim") if each.group is None else one_line(each.group),
            f"{each.count:,}",
            *times_texts(each.wait),
            *times_texts(each.exec),
            *([] if by == "state" else [states_text(each.counts)]),
        )
    return table


def states_text(counts: Mapping[str, int]) -> Text:
    """`1,800 completed, 20 retryable`, in the order of the states."""
    order = [*JobState, *sorted(counts)]
    pieces = [
        Text(f"{counts[state]:,} {printable(state)}", STYLES.get(state, ""))
        for state in dict.fromkeys(order)
        if state in counts
    ]
    return Text(", ").join(pieces)


def times_texts(times: Quantiles | None) -> tuple[str, str]:
    return ("", "") if times is None else (short(times.p50), short(times.p95))


def short(seconds: float) -> str:
    """`0.4 ms`, `12 ms`, `3.4 s`, `12 min`: two digits or three say enough."""
    if seconds < 1:
        milliseconds = seconds * 1_000
        return f"{milliseconds:.1f} ms" if milliseconds < 9.95 else f"{milliseconds:.0f} ms"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 99.95 else f"{seconds:.0f} s"
