"""The fault table, proven: `python -m tests.chaos [--long] [--seed N] [--only TEXT] [--json]`

Each row is a scenario on a PostgreSQL server of its own, with nodes that are real processes. The
checker holds against each other what was enqueued, what the jobs themselves noted, and the tables.
Ends with code 1 if anything was lost, doubled, refused without a reason, or not as it must be.
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tests.chaos import controls
from tests.chaos.checker import Report
from tests.chaos.cluster import Cluster
from tests.chaos.server import Server

SCENARIOS = controls.SCENARIOS
#: Seconds that one scenario may take in the short form.
BOUND = 120.0
LONG = 5.0


def run_one(title: str, seed: int, scale: float) -> Report:
    report = Report(title)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="oban-chaos-run-"))
    chance = random.Random(f"{seed} {title}")  # so that a seed repeats its faults

    async def play(server: Server) -> None:
        cluster = Cluster(server.dsn, folder, report, chance)
        try:
            async with asyncio.timeout(BOUND * scale):
                await SCENARIOS[title](cluster, server, scale)
        except Exception as error:  # the others are run all the same
            cluster.fail(f"{type(error).__name__}: {error}")
        finally:
            await cluster.close()
        if not report.enqueued and cluster.enqueued:
            cluster.check()

    with Server() as server:
        asyncio.run(play(server))
    report.seconds = time.monotonic() - began
    if report.fine:
        shutil.rmtree(folder)
    else:
        report.notes.append(f"records and output are kept in {folder}")
    return report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--long", action="store_true", help="five times as many jobs and as long")
    parser.add_argument("--seed", type=int, default=1, help="which faults chance brings")
    parser.add_argument("--only", default="", help="run the scenarios with this in their title")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    given = parser.parse_args()
    titles = [title for title in SCENARIOS if given.only in title]
    progress = Console(stderr=True)
    reports = []
    for number, title in enumerate(titles, 1):
        with progress.status(f"{number} of {len(titles)}: {title}"):
            reports.append(run_one(title, given.seed, LONG if given.long else 1.0))
        last = reports[-1]
        verdict = "ok" if last.fine else "FAILED"
        progress.print(f"{verdict}  {title}  {last.seconds:.0f} s", highlight=False)
    if given.json:
        print(json.dumps([asdict(report) for report in reports], indent=2))
    else:
        show(reports)
    return 0 if all(report.fine for report in reports) else 1


def show(reports: list[Report]) -> None:
    table = Table("fault", box=None, pad_edge=False, header_style="bold")
    numbers = ("enqueued", "lost", "doubled", "excess", "refused", "unexplained")
    for name in (*numbers, "seconds"):
        table.add_column(name, justify="right")
    for each in reports:
        counts = [f"{getattr(each, name):,}" for name in numbers]
        table.add_row(each.scenario, *counts, f"{each.seconds:.0f}")
    sums = [f"{sum(getattr(each, name) for each in reports):,}" for name in numbers]
    table.add_row("together", *sums, f"{sum(each.seconds for each in reports):.0f}", style="bold")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    console.print(table)
    for each in reports:
        for line in (*each.failures, *each.notes):
            console.print(f"{each.scenario}: {line}", soft_wrap=True, markup=False)


if __name__ == "__main__":
    sys.exit(main())
