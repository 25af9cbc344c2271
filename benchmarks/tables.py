"""Figures arranged in tables, before anybody says what a table looks like."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.figures import OURS, Budget, Figures
from benchmarks.scenarios import SCENARIOS
from benchmarks.scenarios.scenario import Scenario

NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class Cell:
    """A median; its range, where it was repeated; its ratio to ours, where it is another's."""

    figure: str
    spread: str = ""
    ratio: str = ""


@dataclass(frozen=True)
class Line:
    """A scenario's figure, or one of its details."""

    scenario: Scenario
    detail: str = ""

    @property
    def heading(self) -> str:
        """The unit, or what the detail is called."""
        return self.scenario.details[self.detail] if self.detail else self.scenario.unit

    def cell(self, figures: Figures, system: str) -> Cell:
        if self.detail:
            return Cell(number(figures.extra(self.scenario.name, self.detail, system)))
        found = figures.summary(self.scenario.name, system)
        if found is None:
            return Cell(NOTHING)
        middle = found.median
        if middle is None:
            return Cell(found.note.partition(":")[0] or NOTHING)
        spread = ratio = ""
        if len(found.values) > 1:
            spread = f"{number(min(found.values))} to {number(max(found.values))}"
        ours = figures.median(self.scenario.name)
        if system != OURS and ours:
            ratio = f"{middle / ours:.2f}x"
        return Cell(number(middle), spread, ratio)


@dataclass(frozen=True)
class Grid:
    """A table: some scenarios, and the systems that took part in them."""

    title: str
    lines: Sequence[Line]
    systems: Sequence[str]

    @property
    def systems_across(self) -> bool:
        """Whether systems are the columns: tables are rather long than wide."""
        return len(self.lines) > len(self.systems)


def grids(figures: Figures) -> list[Grid]:
    """One for each group of scenarios of which there are results."""
    measured = [each for each in SCENARIOS if each.name in figures.scenarios()]
    found = []
    for title in dict.fromkeys(each.group for each in measured):
        scenarios = [each for each in measured if each.group == title]
        systems = [
            system
            for system in figures.systems()
            if any(figures.summary(each.name, system) for each in scenarios)
        ]
        lines = [Line(each, name) for each in scenarios for name in ("", *each.details)]
        found.append(Grid(title, lines, systems))
    return found


@dataclass(frozen=True)
class Verdict:
    scenario: Scenario
    budget: Budget
    figure: str
    #: None where it is not known.
    met: bool | None

    @property
    def word(self) -> str:
        return {True: "met", False: "missed", None: "unknown"}[self.met]


def verdicts(figures: Figures) -> list[Verdict]:
    """Each budget of what was measured with our figure, or with the reason why there is none."""
    found = []
    for scenario in [each for each in SCENARIOS if each.name in figures.scenarios()]:
        for budget in scenario.budgets:
            figure, met = budget.verdict(figures)
            said = figure if isinstance(figure, str) else f"{number(figure)} {budget.unit}"
            found.append(Verdict(scenario, budget, said, met))
    return found


def number(value: float | None) -> str:
    """With three digits that count, and thousands parted."""
    if value is None:
        return NOTHING
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
