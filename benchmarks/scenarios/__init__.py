"""What is measured, in the order in which it is: what compares comes first."""

from collections.abc import Sequence

from benchmarks.scenarios.bulk import Bulk
from benchmarks.scenarios.bulk_million import BulkMillion
from benchmarks.scenarios.commits import Commits
from benchmarks.scenarios.cpu_bound import CpuBound
from benchmarks.scenarios.drain import Drain10, Drain100, FourProcesses, TwoProcesses
from benchmarks.scenarios.enqueue_concurrent import EnqueueConcurrent
from benchmarks.scenarios.enqueue_one import EnqueueOne
from benchmarks.scenarios.failing import Failing
from benchmarks.scenarios.history import HistoryOneMillion, HistoryTenMillion, Pruning
from benchmarks.scenarios.idle import Idle
from benchmarks.scenarios.isolation import Isolation
from benchmarks.scenarios.latency_idle import LatencyIdle
from benchmarks.scenarios.latency_loaded import LatencyLoaded
from benchmarks.scenarios.limited import (
    LimitsGlobal,
    LimitsPartitions,
    LimitsRate,
    LimitsRates,
    LimitsShared,
)
from benchmarks.scenarios.memory import Memory
from benchmarks.scenarios.metered import Metered
from benchmarks.scenarios.notifications import Notifications
from benchmarks.scenarios.payload import PayloadHundredK, PayloadOneK
from benchmarks.scenarios.priorities import Priorities
from benchmarks.scenarios.promptness import Promptness
from benchmarks.scenarios.rescue import Rescue
from benchmarks.scenarios.scenario import Scenario
from benchmarks.scenarios.unique import UniqueBulk, UniqueOne
from benchmarks.scenarios.vacuum_held import VacuumHeld

SCENARIOS: Sequence[Scenario] = (
    EnqueueOne(),
    EnqueueConcurrent(),
    Bulk(),
    Drain10(),
    Drain100(),
    TwoProcesses(),
    FourProcesses(),
    LatencyIdle(),
    LatencyLoaded(),
    Promptness(),
    Commits(),
    Memory(),
    Idle(),
    Failing(),
    Priorities(),
    PayloadOneK(),
    PayloadHundredK(),
    Notifications(),
    HistoryOneMillion(),
    Pruning(),
    VacuumHeld(),
    Isolation(),
    UniqueOne(),
    UniqueBulk(),
    CpuBound(),
    LimitsGlobal(),
    LimitsShared(),
    LimitsPartitions(),
    LimitsRate(),
    LimitsRates(),
    Metered(),
    BulkMillion(),
    HistoryTenMillion(),
    Rescue(),
)
