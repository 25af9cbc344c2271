"""`python -m benchmarks` measures this project, its peers and the limit; see its README.

The quick size takes less than ten minutes and shows where things are; the full one is for figures
that are published.
"""

import argparse
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import environments, report, results, server
from benchmarks.bench import FULL, QUICK, Bench
from benchmarks.catalog import BY_NAME, System
from benchmarks.results import Result
from benchmarks.run import Cell, Run, cells
from benchmarks.scenarios import SCENARIOS
from benchmarks.scenarios.scenario import Scenario
from benchmarks.tables import number

#: Minutes that the quick size may take, with some to spare of the ten that are promised.
QUICK_MINUTES = 9.0

console = Console(stderr=True, highlight=False)
Kind = TypeVar("Kind", Scenario, System)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = found.add_argument
    add("--full", action="store_true", help="longer runs, and the scenarios that take minutes")
    add("--only", nargs="+", metavar="SCENARIO", default=[], help="measure these only")
    add("--systems", nargs="+", metavar="SYSTEM", default=[], help="measure these only")
    add("--repeat", type=int, default=3, help="how often each is measured; default 3")
    add("--within", type=float, metavar="MINUTES", help="begin nothing that would end later")
    add("--postgres", choices=server.VERSIONS, default=server.DEFAULT, help="which server")
    add("--list", action="store_true", help="list scenarios and systems, measure nothing")
    add("--output", type=Path, metavar="FILE", help="write results to FILE, a new one")
    add(
        "--report",
        type=Path,
        nargs="*",
        metavar="FILE",
        help="report on these results, by default the last, and measure nothing",
    )
    add("--markdown", type=Path, metavar="FILE", help="write the tables into FILE")
    add("--plot", type=Path, metavar="FILE", help="draw a chart into FILE, an SVG")
    return found


def main() -> int:
    given = parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if given.list:
            report.show_list()
            return 0
        if given.report is not None:
            found = results.read(given.report or last_file())
        else:
            found = measured(given)
        publish(found, given.markdown, given.plot)
    except KeyboardInterrupt:
        return 130
    except (server.NoServer, results.BadFile, LookupError) as reason:
        console.print(str(reason), style="red", markup=False, soft_wrap=True)
        return 1
    return 0


def publish(found: Sequence[Result], markdown: Path | None, chart: Path | None) -> None:
    report.show(found)
    if markdown is not None:
        report.write(markdown, found)
    if chart is not None:
        from benchmarks import plot

        plot.draw(found, chart)


def last_file() -> list[Path]:
    found = results.latest_file()
    if found is None:
        raise LookupError("there are no results yet: measure first, or name a file")
    return [found]


def measured(given: argparse.Namespace) -> list[Result]:
    """Measure as asked, writing each result as soon as it is there."""
    output = given.output or results.new_file()
    results.require_new(output)
    scenarios = chosen(given.only, {each.name: each for each in SCENARIOS})
    systems = available(chosen(given.systems, BY_NAME))
    size = FULL if given.full else QUICK
    minutes = given.within or (QUICK_MINUTES if size is QUICK else float("inf"))
    found = []
    with server.running(given.postgres) as postgres:
        bench = Bench(postgres, size, BY_NAME)
        planned = cells(scenarios, systems, bench, given.repeat)
        run = Run(bench, planned, time.monotonic() + 60 * minutes)
        with output.open("x") as file, progress() as bar:
            task = bar.add_task("", total=len(planned))
            for step, each in enumerate(run):
                if isinstance(each, Result):
                    file.write(each.line() + "\n")
                    file.flush()
                    found.append(each)
                    bar.console.print(line(each))
                else:
                    bar.update(task, description=doing(each), completed=step - len(found))
            bar.update(task, completed=len(planned))
    if len(found) < len(planned):
        console.print(f"{len(planned) - len(found)} of {len(planned)} were left out for time")
    console.print(f"results are in {output}")
    return found


def chosen(names: Sequence[str], known: Mapping[str, Kind]) -> list[Kind]:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise LookupError(f"{', '.join(unknown)} is unknown; there are {', '.join(known)}")
    return [each for name, each in known.items() if not names or name in names]


def available(systems: Sequence[System]) -> list[System]:
    """Those that can be measured here; makes their environments, which takes time once."""
    found = []
    with console.status("") as status:
        for system in systems:
            status.update(f"making the environment of {system.title}")
            try:
                environments.prepare(system)
                environments.command(system)
            except environments.Unavailable as reason:
                console.print(f"[yellow]left out: {reason}[/]")
            else:
                found.append(system)
    return found


def progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=True)


def doing(cell: Cell) -> str:
    return f"{cell.scenario.name} · {cell.system.name} · {cell.repetition}"


def line(result: Result) -> str:
    figure = result.note or f"{number(result.figure)} {result.unit}"
    return f"{result.scenario:16} {result.system:16} {figure:>24}   [dim]{result.seconds:.1f} s[/]"


if __name__ == "__main__":
    sys.exit(main())
