"""The shape of a scenario."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Literal

from benchmarks.bench import Bench
from benchmarks.catalog import Capability, System
from benchmarks.figures import LIMITS, OURS, Budget
from benchmarks.measurement import Measurement

Part = Literal["all", "postgres", "limits", "ours", "none"]


class Scenario(ABC):
    """One question about a job queue, asked of each system in the same way."""

    name: ClassVar[str]
    #: What is measured, in a line.
    title: ClassVar[str]
    #: The table in which it stands.
    group: ClassVar[str] = "Throughput"
    unit: ClassVar[str] = "jobs/s"
    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[frozenset[Capability]] = frozenset()
    #: What the tables show beside the figure: extras, and what each is called there.
    details: ClassVar[Mapping[str, str]] = MappingProxyType({})
    #: Who takes part: everybody, those on PostgreSQL, ours beside the limits, ours, nobody.
    quick: ClassVar[Part] = "postgres"
    full: ClassVar[Part] = "postgres"
    #: Whether it is repeated in the quick size too, and whether in the full one.
    core: ClassVar[bool] = False
    once: ClassVar[bool] = False
    budgets: ClassVar[Sequence[Budget]] = ()

    @abstractmethod
    def run(self, system: System, bench: Bench) -> Measurement:
        """Measure once. Raises `Invalid` where that comes to nothing."""

    def takes_part(self, system: System) -> bool:
        """Whether it can be asked of this one, beyond what it needs."""
        return True

    def takes(self, system: System, size: Literal["quick", "full"]) -> bool:
        part = self.quick if size == "quick" else self.full
        if not self.needs <= system.can or not self.takes_part(system):
            return False
        return {
            "all": True,
            "postgres": system.store == "postgres",
            "limits": system.name in LIMITS | {OURS},
            "ours": system.name == OURS,
            "none": False,
        }[part]
