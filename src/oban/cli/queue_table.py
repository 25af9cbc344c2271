"""What queues do, on which nodes, and what was commanded of them: as a table and as a document."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from oban.cli.terminal import one_line, printable, relative
from oban.engines.commands import EVERY, Intent
from oban.integrations.autoscaling import Forecast
from oban.phrases import length_text, moment_text
from oban.running.control import ASPECTS, newest
from oban.running.producer import QueueInfo


def is_silent(info: QueueInfo) -> bool:
    """Whether its process may be taken for dead: it has given no sign of life for too long."""
    return not info.meta["alive"]


def remarks(info: QueueInfo, commands: Sequence[Intent]) -> list[str]:
    """What an operator should know of it beside the numbers."""
    found = []
    if is_silent(info):
        found.append("silent: it has died, or cannot reach the database")
    elif info.meta.get("shutdown_started_at"):
        found.append("shutting down")
    lag = info.meta.get("loop_lag")
    if isinstance(lag, float) and lag >= 1:
        found.append(f"event loop blocked for {lag:.1f} s")
    found += [
        f"{command.aspect} is not {said(command)}, as commanded"
        for command in differing(info, commands)
    ]
    return found


def differing(info: QueueInfo, commands: Sequence[Intent]) -> list[Intent]:
    """Commands that hold for it and that it does not do: not yet, or a foreign one came after."""
    has = {
        "limit": info.limit,
        "paused": info.paused,
        "running": not info.meta.get("shutdown_started_at"),
        "global_limit": info.meta.get("global_limit"),
        "rate_limit": info.meta.get("rate_limit"),
    }
    holding = (newest(commands, info.queue, info.node, aspect) for aspect in ASPECTS)
    return [each for each in holding if each is not None and has[each.aspect] != each.value]


def short_id(uuid: str) -> str:
    """Enough of it to tell the processes of a node apart."""
    return uuid[:8]


def said(command: Intent) -> str:
    value = command.value
    if isinstance(value, Mapping):
        return f"{value.get('allowed')} in {value.get('period')} s"
    return str(value).lower()


def scope(command: Intent) -> str:
    return "all nodes" if command.node == EVERY else f"node {command.node}"


def queue_table(infos: Sequence[QueueInfo], commands: Sequence[Intent]) -> Table:
    table = Table("queue", "node", "id", box=None, pad_edge=False, header_style="bold")
    table.add_column("running", justify="right")
    table.add_column("limit", justify="right")
    for name in ("state", "heartbeat", "remarks"):
        table.add_column(name, overflow="fold")
    for info in sorted(infos, key=lambda each: (each.queue, each.node, each.uuid)):
        age = info.meta.get("beat_age")
        table.add_row(
            Text(printable(info.queue)),
            Text(printable(info.node)),
            short_id(info.uuid),
            str(len(info.running)),
            str(info.limit),
            Text("paused", "yellow") if info.paused else Text("runs", "green"),
            f"{age:.0f}s ago" if isinstance(age, float) else "never",
            Text("; ".join(remarks(info, commands)), "red"),
        )
    return table


def forecast_table(forecasts: Mapping[str, Forecast]) -> Table:
    table = Table("queue", box=None, pad_edge=False, header_style="bold")
    for name in ("available", "oldest", "running", "limit", "a minute", "drains in", "slots"):
        table.add_column(name, justify="right")
    for queue, each in forecasts.items():
        rate, drain = each.rate_per_minute, each.drain_seconds
        table.add_row(
            one_line(queue),
            f"{each.available:,}",
            length_text(each.oldest_wait) if each.available else "",
            f"{each.running:,}",
            f"{each.limit:,}",
            "unknown" if rate is None else f"{rate:,.1f}",
            "paused" if each.paused else "unknown" if drain is None else length_text(drain),
            f"{each.suggested_slots:,}",
        )
    return table


def command_table(commands: Sequence[Intent]) -> Table:
    table = Table("queue", "for", "command", "since", box=None, pad_edge=False, header_style="bold")
    for each in commands:
        ends = "" if each.expires_in is None else f", for {length_text(each.expires_in)} more"
        table.add_row(
            Text("all queues" if each.queue == EVERY else printable(each.queue)),
            Text(printable(scope(each))),
            Text(f"{each.aspect} {said(each)}{ends}"),
            f"{moment_text(each.set_at)} ({relative(each.set_at)})",
        )
    return table


def document(infos: Sequence[QueueInfo], commands: Sequence[Intent]) -> dict[str, Any]:
    return {
        "queues": [
            {
                "queue": info.queue,
                "node": info.node,
                "uuid": info.uuid,
                "limit": info.limit,
                "paused": info.paused,
                "running": info.running,
                "started_at": info.started_at,
                "silent": is_silent(info),
                "remarks": remarks(info, commands),
                "meta": info.meta,
            }
            for info in infos
        ],
        "commands": [
            {
                "queue": each.queue,
                "node": each.node,
                "aspect": each.aspect,
                "value": each.value,
                "version": each.version,
                "set_at": each.set_at,
                "expires_in": each.expires_in,
            }
            for each in commands
        ],
    }
