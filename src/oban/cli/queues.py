"""`oban queues`: what the queues do, and commands that hold until they are taken back."""

import asyncio
import re
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from oban.cli.database import client
from oban.cli.failures import WrongUsage
from oban.cli.obeying import RESET, carry_out
from oban.cli.options import (
    ConfigOption,
    DsnOption,
    EmbeddedOption,
    GlobalLimitOption,
    JsonOption,
    PrefixOption,
    RateLimitOption,
    configure,
    parse_length,
    parse_rate,
)
from oban.cli.queue_table import command_table, document, forecast_table, queue_table
from oban.cli.terminal import print_json, show
from oban.engines.commands import EVERY
from oban.integrations import autoscaling
from oban.integrations.autoscaling import WITHIN
from oban.integrations.figures import Figures
from oban.oban import Oban
from oban.part import check_name

queues = typer.Typer(
    name="queues",
    help="List, pause, resume, scale, start and stop queues, on all nodes or on one.",
    no_args_is_help=True,
)


QueueArgument = Annotated[str, typer.Argument(metavar="QUEUE", show_default=False)]
MaybeQueue = Annotated[str | None, typer.Argument(metavar="QUEUE", show_default=False)]
AllOption = Annotated[bool, typer.Option("--all", help="All queues.")]
NodeOption = Annotated[
    str | None,
    typer.Option("--node", metavar="NAME", help="Only on this node, instead of on all."),
]
UntilOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHEN",
        help="Resume by itself: after 30m, 2h or 1d, or at a time as 2030-01-31T08:00+01:00.",
    ),
]


@queues.command("list")
def list_queues(
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Show what each queue does on each node, and what was commanded of them."""
    loaded = configure(config, dsn, embedded, prefix)

    async def look() -> None:
        async with client(loaded) as oban:
            infos, commands = await oban.list_queues(), await oban.list_commands()
        if as_json:
            print_json(document(infos, commands))
            return
        show(queue_table(infos, commands) if infos else "no node runs a queue")
        if commands:
            show("", command_table(commands))

    asyncio.run(look())


@queues.command()
def forecast(
    *,
    within: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="In how many what waits is to be begun."),
    ] = WITHIN,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Tell how long each queue takes to drain, and how many slots it should have.

    oban queues forecast
    oban queues forecast --within 300 --json
    """
    loaded = configure(config, dsn, embedded, prefix)

    async def look() -> None:
        async with client(loaded) as oban:
            figures = await asyncio.to_thread(Figures.read, oban.engine)
        if as_json:
            print_json(autoscaling.document(figures, within))
            return
        found = autoscaling.forecast(figures, within)
        show(forecast_table(found) if found else "there is nothing to do, and no node runs a queue")

    asyncio.run(look())


@queues.command()
def pause(
    *,
    queue: MaybeQueue = None,
    every: AllOption = False,
    node: NodeOption = None,
    until: UntilOption = None,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Claim no more jobs of a queue; those that run go on.

    oban queues pause mailers --until 2h
    oban queues pause --all --node web-1
    """
    ends = parse_until(until)
    name = one_or_all(queue, every)

    def act(oban: Oban) -> Awaitable[object]:
        return oban.command(name, node, {"paused": True}, ends)

    carry_out(configure(config, dsn, embedded, prefix), act, name, node, "paused")


@queues.command()
def resume(
    *,
    queue: MaybeQueue = None,
    every: AllOption = False,
    node: NodeOption = None,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Claim jobs of a queue again."""
    name = one_or_all(queue, every)

    def act(oban: Oban) -> Awaitable[object]:
        return oban.command(name, node, {"paused": False})

    carry_out(configure(config, dsn, embedded, prefix), act, name, node, "resumed")


class NumbersAsArguments(TyperCommand):
    """A number below zero is a value, which is refused for what it is, and no option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if any(re.fullmatch(r"-\d+", each) for each in args):
            ctx.ignore_unknown_options = True
        return super().parse_args(ctx, args)


@queues.command(cls=NumbersAsArguments)
def scale(
    *,
    queue: QueueArgument,
    limit: Annotated[int | None, typer.Argument(metavar="[LIMIT]", show_default=False)] = None,
    global_limit: GlobalLimitOption = None,
    rate_limit: RateLimitOption = None,
    node: NodeOption = None,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Run up to LIMIT jobs of a queue at once in each process that runs it.

    oban queues scale mailers 20
    oban queues scale mailers --global-limit 50 --rate-limit 600/60
    """
    rate = None if rate_limit is None else parse_rate(rate_limit)

    def act(oban: Oban) -> Awaitable[object]:
        return oban.scale_queue(queue, limit, global_limit=global_limit, rate_limit=rate, node=node)

    became = {
        f"to {limit} in each process": limit,
        f"to {global_limit} on all nodes together": global_limit,
        f"to {rate_limit} s": rate_limit,
    }
    scaled = ", ".join(text for text, value in became.items() if value is not None)
    loaded = configure(config, dsn, embedded, prefix)
    carry_out(loaded, act, queue, node, f"scaled {scaled}")


@queues.command()
def start(
    *,
    queue: QueueArgument,
    limit: Annotated[int | None, typer.Option(help="How many at once in each process.")] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Start it, but claim nothing.")] = False,
    node: NodeOption = None,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Run a queue, also where it is not configured, and on nodes that start later."""

    def act(oban: Oban) -> Awaitable[object]:
        return oban.start_queue(queue, limit, True if paused else None, node=node)

    loaded = configure(config, dsn, embedded, prefix)
    carry_out(loaded, act, queue, node, "started", pauses=paused)


@queues.command()
def stop(
    *,
    queue: QueueArgument,
    node: NodeOption = None,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Run a queue no more; its jobs may finish within the grace period."""

    def act(oban: Oban) -> Awaitable[object]:
        return oban.stop_queue(queue, node=node)

    carry_out(configure(config, dsn, embedded, prefix), act, queue, node, "stopped")


@queues.command()
def reset(
    *,
    queue: MaybeQueue = None,
    every: AllOption = False,
    node: NodeOption = None,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Forget what was commanded of a queue: the configuration of each node holds again."""
    name = one_or_all(queue, every)

    def act(oban: Oban) -> Awaitable[object]:
        return oban.forget_commands(name, node)

    carry_out(configure(config, dsn, embedded, prefix), act, name, node, RESET)


def one_or_all(queue: str | None, every: bool) -> str:
    if (queue is None) != every or queue == EVERY:
        raise WrongUsage("name one QUEUE, or give --all")
    return EVERY if queue is None else check_name("queue", queue)


def parse_until(text: str | None) -> datetime | timedelta | None:
    if text is None:
        return None
    if (length := parse_length(text)) is not None:
        return timedelta(seconds=length)
    try:
        moment = datetime.fromisoformat(text)
        # A person at a terminal means the time of this machine.
        moment = moment.astimezone() if moment.tzinfo is None else moment
    except (ValueError, OverflowError):
        raise WrongUsage(
            f"--until is {text!r}; it is a length as 90s, 30m, 2h or 1d, or a time as "
            "2030-01-31T08:00+01:00"
        ) from None
    if moment <= datetime.now(UTC):
        tomorrow = datetime.now() + timedelta(days=1)  # noqa: DTZ005  # as a person would write it
        raise WrongUsage(
            f"--until is {text}, which is in the past; give a time to come, such as "
            f"{tomorrow:%Y-%m-%d}T08:00, or a duration such as 2h"
        )
    return moment
