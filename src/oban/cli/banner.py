"""What a node says when it is up: what it runs, where, and with whose code."""

import os
from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from oban.cli.plan import Plan
from oban.cli.terminal import printable
from oban.dsn import mask_dsn
from oban.options import QueueOptions
from oban.phrases import counted
from oban.running.process import version as oban_version


def facts(plan: Plan, dsn: str, schema_version: int) -> dict[str, Any]:
    options = plan.configuration.options
    return {
        "version": oban_version(),
        "pid": os.getpid(),
        "node": options.node,
        "queues": {name: shown_queue(queue) for name, queue in options.queues.items()},
        "database": mask_dsn(dsn),
        "prefix": options.prefix,
        "schema_version": schema_version,
        "workers": list(plan.workers.names),
        "shutdown_grace_period": options.shutdown_grace_period,
    }


def shown_queue(queue: QueueOptions) -> int | dict[str, Any]:
    return {"limit": queue.limit, "paused": True} if queue.paused else queue.limit


def banner(told: Mapping[str, Any]) -> Table:
    """The facts as a person likes to read them."""
    queues = ", ".join(
        f"{name} {queue['limit']} (paused)" if isinstance(queue, dict) else f"{name} {queue}"
        for name, queue in told["queues"].items()
    )
    schema = f"schema {told['prefix']} at version {told['schema_version']}"
    rows = {
        "queues": queues,
        "node": f"{told['node']}, pid {told['pid']}",
        "database": f"{told['database']}, {schema}",
        "workers": f"{len(told['workers'])}: {', '.join(told['workers'])}".rstrip(": "),
        "health": f"{told['health']}, at /ready and /live" if "health" in told else "",
        "shutdown": f"waits up to {told['shutdown_grace_period']:g} s for running jobs",
    }
    table = Table.grid(padding=(0, 2))
    table.add_row(Text("oban", "bold green"), Text(f"{told['version']} is running"))
    for name, value in rows.items():
        if value:
            table.add_row(Text(name, "dim"), Text(printable(value), overflow="fold"))
    return table


def running_text(running: dict[str, int]) -> str:
    total = counted(sum(running.values()), "running job")
    return f"{total} ({', '.join(f'{queue} {count}' for queue, count in running.items())})"
