"""The results of one run, seen together: medians, ranges and ratios."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.catalog import BY_NAME
from benchmarks.results import Result

OURS = "oban"
LIMITS = frozenset({"bare_loop", "bare_sql"})
POSTGRES_PEERS = frozenset(
    name
    for name, system in BY_NAME.items()
    if system.store == "postgres" and not system.node and name not in LIMITS | {OURS}
)
PYTHON_PEERS = POSTGRES_PEERS | {
    name for name, system in BY_NAME.items() if system.store == "redis"
}


@dataclass(frozen=True)
class Summary:
    """One system in one scenario."""

    values: Sequence[float]
    #: Why there is no figure, if there is none at all.
    note: str = ""

    @property
    def median(self) -> float | None:
        return median(self.values) if self.values else None


class Figures:
    def __init__(self, results: Iterable[Result]) -> None:
        self.results = list(results)
        self.by_cell: dict[tuple[str, str], list[Result]] = {}
        for result in self.results:
            self.by_cell.setdefault((result.scenario, result.system), []).append(result)

    def summary(self, scenario: str, system: str) -> Summary | None:
        """None where the system took no part."""
        cell = self.by_cell.get((scenario, system))
        if cell is None:
            return None
        notes = [result.note for result in cell if result.note]
        return Summary([r.figure for r in cell if r.figure is not None], "; ".join(notes[:1]))

    def median(self, scenario: str, system: str = OURS) -> float | None:
        found = self.summary(scenario, system)
        return None if found is None else found.median

    def extra(self, scenario: str, name: str, system: str = OURS) -> float | None:
        cell = self.by_cell.get((scenario, system), [])
        found = [result.extras[name] for result in cell if name in result.extras]
        return median(found) if found else None

    def scenarios(self) -> list[str]:
        return list(dict.fromkeys(result.scenario for result in self.results))

    def systems(self) -> list[str]:
        """As the catalog orders them."""
        measured = {result.system for result in self.results}
        return [name for name in BY_NAME if name in measured]


#: Our figure in the terms of a budget, or why there is none.
Figure = Callable[[Figures], float | str]
UNKNOWN = "not measured"


@dataclass(frozen=True)
class Budget:
    """A promise about a figure, as the design states it."""

    text: str
    figure: Figure
    bound: float
    at_most: bool = False
    unit: str = "x"

    def verdict(self, figures: Figures) -> tuple[float | str, bool | None]:
        """The figure and whether the promise holds; None where that is not known."""
        found = self.figure(figures)
        if isinstance(found, str):
            return found, None
        return found, found <= self.bound if self.at_most else found >= self.bound


def own(scenario: str) -> Figure:
    """Our figure itself."""
    return lambda figures: known(figures.median(scenario))


def own_extra(scenario: str, name: str) -> Figure:
    return lambda figures: known(figures.extra(scenario, name))


def extra_ratio(scenario: str, name: str, to: str) -> Figure:
    """Our figure `name` to our figure `to`, both of the extras."""
    return lambda figures: ratio(figures.extra(scenario, name), figures.extra(scenario, to))


def against(scenario: str, system: str, *, their_scenario: str | None = None) -> Figure:
    """Our figure to that of another system."""
    return lambda figures: ratio(
        figures.median(scenario), figures.median(their_scenario or scenario, system)
    )


def against_own(scenario: str, other: str) -> Figure:
    return lambda figures: ratio(figures.median(scenario), figures.median(other))


def against_fastest(
    scenario: str, group: Iterable[str], *, name: str | None = None, lowest: bool = False
) -> Figure:
    """Our figure, or the extra of that name, to the best of the group."""

    def figure(figures: Figures) -> float | str:
        def value(system: str) -> float | None:
            if name is None:
                return figures.median(scenario, system)
            return figures.extra(scenario, name, system)

        theirs = [found for system in group if (found := value(system)) is not None]
        if not theirs:
            return "no peer measured"
        return ratio(value(OURS), min(theirs) if lowest else max(theirs))

    return figure


def against_loop(scenario: str, *, honest: float = 0.7) -> Figure:
    """Our figure to the bare loop, if that comes near to bare SQL: else it is no limit."""

    def figure(figures: Figures) -> float | str:
        loop, statements = (
            figures.median(scenario, "bare_loop"),
            figures.median(scenario, "bare_sql"),
        )
        if loop is None or statements is None:
            return UNKNOWN
        if loop < honest * statements:
            return f"void: the loop reached {loop / statements:.2f} of bare SQL"
        return ratio(figures.median(scenario), loop)

    return figure


def known(value: float | None) -> float | str:
    return UNKNOWN if value is None else value


def ratio(ours: float | None, theirs: float | None) -> float | str:
    return UNKNOWN if ours is None or not theirs else ours / theirs
