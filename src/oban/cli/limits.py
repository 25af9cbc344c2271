"""`oban limits`: the limits that queues share, and how much of them is used."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from oban.cli.database import client
from oban.cli.options import (
    ConfigOption,
    DsnOption,
    EmbeddedOption,
    GlobalLimitOption,
    JsonOption,
    PrefixOption,
    RateLimitOption,
    configure,
    parse_rate,
)
from oban.cli.terminal import print_json, printable, show
from oban.limits import LimitInfo
from oban.phrases import length_text

limits = typer.Typer(
    name="limits",
    help="List, scale and reset the limits that queues share.",
    no_args_is_help=True,
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]


@limits.command("list")
def list_limits(
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Show each limit, and how much of it is used just now."""
    loaded = configure(config, dsn, embedded, prefix)

    async def look() -> list[LimitInfo]:
        async with client(loaded) as oban:
            return await oban.list_limits()

    found = asyncio.run(look())
    if as_json:
        print_json([asdict(each) for each in found])
    else:
        show(limit_table(found) if found else "no node has said that queues share a limit")


@limits.command()
def scale(
    *,
    name: NameArgument,
    global_limit: GlobalLimitOption = None,
    rate_limit: RateLimitOption = None,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Let another limit hold on all nodes, until it is scaled again or reset.

    oban limits scale openai --global-limit 2 --rate-limit 100/60
    """
    rate = None if rate_limit is None else parse_rate(rate_limit)
    loaded = configure(config, dsn, embedded, prefix)

    async def act() -> None:
        async with client(loaded) as oban:
            await oban.scale_limit(name, global_limit=global_limit, rate_limit=rate)
            show(limit_table([each for each in await oban.list_limits() if each.name == name]))

    asyncio.run(act())


@limits.command()
def reset(
    *,
    name: NameArgument,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Let hold again what the nodes say."""
    loaded = configure(config, dsn, embedded, prefix)

    async def act() -> bool:
        async with client(loaded) as oban:
            return await oban.reset_limit(name)

    was_scaled = asyncio.run(act())
    show(f"limit {name}: {'as the nodes say' if was_scaled else 'had not been scaled'}")


def limit_table(found: list[LimitInfo]) -> Table:
    table = Table("limit", box=None, pad_edge=False, header_style="bold")
    table.add_column("running", justify="right")
    table.add_column("at once", justify="right")
    table.add_column("started", justify="right")
    table.add_column("allowed", justify="right")
    table.add_column("remarks", overflow="fold")
    for each in found:
        rate = each.rate_limit
        remarks = [
            *(["scaled"] if each.scaled else []),
            *([f"rests for {length_text(each.resting)}"] if each.resting else []),
        ]
        table.add_row(
            Text(printable(each.name)),
            f"{each.running:,}",
            "" if each.global_limit is None else f"{each.global_limit:,}",
            "" if rate is None else f"{each.started:,}",
            "" if rate is None else f"{rate['allowed']:,.0f} in {length_text(rate['period'])}",
            Text(", ".join(remarks), "yellow"),
        )
    return table
