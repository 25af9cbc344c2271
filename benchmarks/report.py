"""Results on a terminal, and in Markdown between two markers of a file."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.catalog import BY_NAME, SYSTEMS
from benchmarks.figures import OURS, Figures
from benchmarks.results import Result
from benchmarks.scenarios import SCENARIOS
from benchmarks.tables import Cell, Grid, Line, grids, verdicts

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
WIDTH = 150
HIGHLIGHT = "bold green"
COLOURS = {"met": "green", "missed": "red", "unknown": "dim"}


def show(results: Sequence[Result], console: Console | None = None) -> None:
    console = console or wide()
    figures = Figures(results)
    for grid in grids(figures):
        console.print(drawn(grid, figures))
    table = Table("scenario", "budget", "figure", "", title="Budgets", title_justify="left")
    for each in verdicts(figures):
        word = f"[{COLOURS[each.word]}]{each.word}[/]"
        table.add_row(each.scenario.name, each.budget.text, each.figure, word)
    console.print(table)
    for result in unfinished(results):
        console.print(f"{result.scenario}, {result.system}: {result.note}", style="yellow")


def wide() -> Console:
    """As wide as the terminal; what goes to a file has no such bound."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def drawn(grid: Grid, figures: Figures) -> Table:
    table = Table("", title=grid.title, title_justify="left")
    if grid.systems_across:
        table.add_column("")
        for system in grid.systems:
            table.add_column(system, justify="right", style=HIGHLIGHT if system == OURS else "")
        for line in grid.lines:
            cells = [spoken(line.cell(figures, system)) for system in grid.systems]
            table.add_row("" if line.detail else line.scenario.name, line.heading, *cells)
    else:
        for line in grid.lines:
            name = "" if line.detail else line.scenario.name
            table.add_column(f"{name}\n[dim]{line.heading}[/]", justify="right", overflow="fold")
        for system in grid.systems:
            cells = [spoken(line.cell(figures, system)) for line in grid.lines]
            table.add_row(system, *cells, style=HIGHLIGHT if system == OURS else "")
    return table


def spoken(cell: Cell) -> str:
    first = f"{cell.figure} {cell.ratio}".strip()
    return f"{first}\n[dim]{cell.spread}[/]" if cell.spread else first


def markdown(results: Sequence[Result]) -> str:
    """The same tables, with what they were measured on."""
    figures = Figures(results)
    lines = [circumstances(results), ""]
    for grid in grids(figures):
        lines += [f"### {grid.title}", "", *written(grid, figures), ""]
    lines += ["### Budgets", "", row(["Scenario", "Budget", "Figure", ""])]
    lines += ["| --- | --- | ---: | --- |"]
    for each in verdicts(figures):
        lines.append(row([each.scenario.title, each.budget.text, each.figure, each.word]))
    notes = [f"- {each.scenario}, {each.system}: {each.note}" for each in unfinished(results)]
    if notes:
        lines += ["", "Without a figure:", "", *notes]
    return "\n".join(lines) + "\n"


def written(grid: Grid, figures: Figures) -> list[str]:
    titles = [titled(system) for system in grid.systems]
    headings = [heading(line) for line in grid.lines]
    cells = [[plain(line.cell(figures, each)) for each in grid.systems] for line in grid.lines]
    if not grid.systems_across:
        titles, headings = headings, titles
        cells = [list(turned) for turned in zip(*cells, strict=True)]
    lines = [row(["", *titles]), "| --- |" + " ---: |" * len(titles)]
    return lines + [row([first, *rest]) for first, rest in zip(headings, cells, strict=True)]


def heading(line: Line) -> str:
    return f"… {line.heading}" if line.detail else f"{line.scenario.title}, {line.heading}"


def titled(system: str) -> str:
    title = BY_NAME[system].title
    return f"**{title}**" if system == OURS else title


def plain(cell: Cell) -> str:
    spread = f"({cell.spread})" if cell.spread else ""
    return " ".join(part for part in (cell.figure, spread, cell.ratio) if part)


def row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def circumstances(results: Sequence[Result]) -> str:
    """On what, when, and how often."""
    last = results[-1]
    machine = last.machine
    times = max(each.repetition for each in results)
    often = f"medians of up to {times} with their range" if times > 1 else "measured once"
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory']}; PostgreSQL "
        f"{last.postgres}, Python {last.python}; {last.at[:10]}, {last.size} size; {often}; ratios "
        "are to ours."
    )


def unfinished(results: Iterable[Result]) -> list[Result]:
    """One for each system and scenario that came to nothing."""
    found = {(each.scenario, each.system): each for each in results if each.note}
    return list(found.values())


def write(path: Path, results: Sequence[Result]) -> None:
    """Put the tables between the markers of a file; a new file gets nothing else."""
    text = path.read_text() if path.exists() else f"{BEGIN}\n{END}\n"
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise LookupError(f"{path} has no lines {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n{markdown(results)}{END}{after}")


def show_list() -> None:
    console = wide()
    table = Table("scenario", "measures", "unit", "quick", "full", title="Scenarios")
    for each in SCENARIOS:
        table.add_row(each.name, each.title, each.unit, each.quick, each.full)
    console.print(table)
    table = Table("system", "", "store", title="Systems")
    for system in SYSTEMS:
        table.add_row(system.name, system.title, system.store)
    console.print(table)
