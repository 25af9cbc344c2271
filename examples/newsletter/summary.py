"""What came out: a table and what to try next."""

import io
import os
import shutil
import sys
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from examples.newsletter.display import COLORS, Picture
from examples.newsletter.results import PREFIX, Results

SVG_WIDTH = 100


def print_summary(console: Console, results: Results, *, is_embedded: bool) -> None:
    console.print(summary(results, is_embedded=is_embedded))


def export_svg(path: Path, picture: Picture, results: Results, *, is_embedded: bool) -> None:
    """Save the end of the demo as it looks on a terminal of 100 columns."""
    console = Console(
        record=True,
        width=SVG_WIDTH,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    console.print(picture)
    console.print(summary(results, is_embedded=is_embedded))
    path.write_text(console.export_svg(title="make demo", unique_id="oban-demo"), "utf-8")


def summary(results: Results, *, is_embedded: bool) -> RenderableType:
    return Group(Text(), table(results), facts(results), Text(), advice(is_embedded))


def table(results: Results) -> Table:
    mails = results.mails
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right", style="bold")
    table.add_column(style="dim")
    rows = (
        ("sent", mails.sent, COLORS["completed"], "accepted by the mail server"),
        ("retried", mails.retried, COLORS["retryable"], "failed and were tried again"),
        ("snoozed", mails.snoozed, COLORS["scheduled"], "put off by the server; no attempt used"),
        ("cancelled", mails.cancelled, COLORS["cancelled"], "unsubscribed before their turn"),
        ("discarded", mails.discarded, COLORS["discarded"], "bounced three times"),
    )
    for name, count, color, meaning in rows:
        table.add_row(Text(name, color), str(count), meaning)
    table.add_section()
    table.add_row("start, median", seconds(mails.start_median), "from enqueue to start: all were")
    table.add_row("start, p95", seconds(mails.start_p95), "enqueued at once and took turns")
    delays = ", ".join(seconds(each.start_delay) for each in results.reports)
    table.add_row("start, reports", delays, "a queue of its own waits for nobody")
    return table


def facts(results: Results) -> RenderableType:
    report = results.reports[-1]
    found = "one to one" if results.one_to_one else "WHICH DO NOT MATCH"
    return Group(
        Text(
            f"Enqueued {results.subscribers} jobs in {seconds(results.enqueue_seconds)}, "
            f"done in {seconds(results.seconds)}."
        ),
        Text(
            f"Checked: {results.accepted} mails at the server, {results.mails.sent} completed "
            f"jobs, {found}.",
            "" if results.one_to_one else "bold red",
        ),
        Text(
            f"Report: {shown(report.path)} "
            f"({report.width} x {report.height}, {report.bytes / 1000:.0f} kB)"
        ),
    )


def advice(is_embedded: bool) -> Text:
    where = f"--embedded --prefix {PREFIX}" if is_embedded else f"--dsn DSN --prefix {PREFIX}"
    folder = "" if shutil.which("oban") else f"{shown(str(Path(sys.executable).parent))}/"
    return Text.assemble(
        ("Every job is kept as history. Try next:\n", "dim"),
        f"  {folder}oban jobs list {where} --state discarded\n",
        f"  {folder}python -m examples.newsletter --subscribers 2000 --limit 100\n",
        "  less examples/newsletter/workers.py",
    )


def shown(path: str) -> str:
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
