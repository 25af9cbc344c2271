"""A chart of the rates by system, as an SVG that reads well on a light and on a dark page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.catalog import BY_NAME
from benchmarks.figures import LIMITS, OURS, Figures
from benchmarks.results import Result
from benchmarks.scenarios import SCENARIOS
from benchmarks.tables import number

#: What can be read on white and on black alike.
TEXT, FAINT = "#7d8590", "#7d859055"
COLOURS = {"ours": "#2f9e6e", "limit": "#b0853a", "peer": "#4f7fbf"}


@dataclass(frozen=True)
class Panel:
    title: str
    scenario: str


PANELS = (
    Panel("Enqueue one by one", "enqueue_one"),
    Panel("Insert 20,000 at once", "bulk"),
    Panel("Drain, concurrency 10", "drain_10"),
    Panel("Drain, concurrency 100", "drain_100"),
)


def draw(results: Sequence[Result], path: Path) -> None:
    """Write the panels of those scenarios that were measured."""
    import matplotlib as mpl

    mpl.use("svg")
    # Text stays text, and the same results make the same file.
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "oban", "font.family": "sans-serif"}
    from matplotlib import pyplot as plt

    figures = Figures(results)
    panels = [panel for panel in PANELS if panel.scenario in figures.scenarios()]
    if not panels:
        raise LookupError("nothing to draw: neither drains nor enqueues were measured")
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    height = 1.0 + 0.28 * len(figures.systems())
    size = (5.0 * columns, height * lines)
    figure, axes = plt.subplots(lines, columns, figsize=size, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        draw_panel(axis, panel, figures)
    figure.tight_layout(w_pad=2.5, h_pad=2.0)
    figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})
    plt.close(figure)


def draw_panel(axis: Any, panel: Panel, figures: Figures) -> None:
    """Bars, the fastest on top, with the range of the repetitions."""
    found = [(system, figures.summary(panel.scenario, system)) for system in figures.systems()]
    bars = [(system, each) for system, each in found if each is not None and each.values]
    bars.sort(key=lambda bar: bar[1].median or 0.0)
    for place, (system, each) in enumerate(bars):
        middle = each.median or 0.0
        axis.barh(place, middle, color=COLOURS[kind(system)], height=0.66)
        axis.hlines(place, min(each.values), max(each.values), color=TEXT, linewidth=1)
        label = f"  {number(middle)}"
        axis.text(max(each.values), place, label, va="center", color=TEXT, fontsize=8)
    axis.set_yticks(range(len(bars)), [label_of(system) for system, _ in bars], fontsize=8)
    unit = next(each.unit for each in SCENARIOS if each.name == panel.scenario)
    logarithmic = scale(axis, [each.median or 0.0 for _, each in bars])
    title = f"{panel.title}, {unit}{' (log)' if logarithmic else ''}"
    axis.set_title(title, loc="left", color=TEXT, fontsize=10, fontweight="bold")
    axis.tick_params(which="both", colors=TEXT, length=0, labelsize=8)
    for tick, (system, _) in zip(axis.get_yticklabels(), bars, strict=True):
        tick.set_fontweight("bold" if system == OURS else "normal")
        tick.set_color(COLOURS["ours"] if system == OURS else TEXT)
    axis.grid(axis="x", color=FAINT, linewidth=0.6)
    axis.set_axisbelow(True)
    for side in axis.spines.values():
        side.set_visible(False)


def scale(axis: Any, values: Sequence[float]) -> bool:
    """Logarithmic, and then True, where the slowest could not be seen beside the fastest."""
    logarithmic = bool(values) and max(values) > 40 * min(values)
    if logarithmic:
        axis.set_xscale("log")
        axis.set_xlim(min(values) / 2, max(values) * 4)
    else:
        axis.set_xlim(0, max(values, default=1.0) * 1.22)
        axis.locator_params(axis="x", nbins=4)  # more do not fit side by side
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return logarithmic


def kind(system: str) -> str:
    if system == OURS:
        return "ours"
    return "limit" if system in LIMITS else "peer"


def label_of(system: str) -> str:
    return BY_NAME[system].title.replace(" (", ", ").replace(")", "")
