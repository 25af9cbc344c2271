"""Measures in turn: each scenario with all its systems, then all of it again.

What the machine does meanwhile so hits all systems alike; the order of the systems turns round with
each repetition.
"""

import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.bench import Bench
from benchmarks.catalog import System
from benchmarks.measurement import Invalid, Measurement
from benchmarks.results import Result, machine, version_of
from benchmarks.scenarios.scenario import Scenario


@dataclass(frozen=True)
class Cell:
    """One thing to measure."""

    scenario: Scenario
    system: System
    repetition: int


@dataclass
class Run:
    bench: Bench
    cells: Sequence[Cell]
    #: By time.monotonic(); what would end later is not begun.
    deadline: float = float("inf")

    def __iter__(self) -> Iterator[Result | Cell]:
        """A cell before it is measured, then its result; the cell alone if there was no time."""
        facts, postgres = machine(), self.bench.server.version()
        took: dict[tuple[str, str], float] = {}
        for cell in self.cells:
            yield cell
            key = (cell.scenario.name, cell.system.name)
            began = time.monotonic()
            if began + took.get(key, 0.0) > self.deadline:
                continue
            found = measure(cell, self.bench)
            took[key] = time.monotonic() - began
            yield Result(
                scenario=cell.scenario.name,
                system=cell.system.name,
                version=version_of(cell.system),
                repetition=cell.repetition,
                size=self.bench.size.name,
                figure=found.figure,
                unit=cell.scenario.unit,
                extras=found.extras,
                note=found.note,
                seconds=round(took[key], 2),
                postgres=postgres,
                python=platform.python_version(),
                machine=facts,
            )


def measure(cell: Cell, bench: Bench) -> Measurement:
    try:
        return cell.scenario.run(cell.system, bench)
    except Invalid as reason:
        return Measurement(None, note=str(reason))
    except Exception as error:  # noqa: BLE001  # one that fails must not end a run of hours
        return Measurement(None, note=f"failed: {error!r:.300}")


def cells(
    scenarios: Sequence[Scenario], systems: Sequence[System], bench: Bench, repeat: int
) -> list[Cell]:
    """In the order in which they are measured."""
    found = []
    for repetition in range(1, repeat + 1):
        for scenario in scenarios:
            if repetition > 1 and not repeats(scenario, bench):
                continue
            part = [system for system in systems if scenario.takes(system, bench.size.name)]
            turned = part if repetition % 2 else part[::-1]
            found += [Cell(scenario, system, repetition) for system in turned]
    return found


def repeats(scenario: Scenario, bench: Bench) -> bool:
    return scenario.core if bench.size.name == "quick" else not scenario.once
