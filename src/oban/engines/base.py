"""The boundary to a database: an engine, and the verbs of which it is made.

Each verb's promise stands in the file of its topic, beside the values that it takes and returns.
Verbs build operations; `execute`, `execute_sync` and a `Session` carry them out. An operation is a
value: building one touches nothing, and the same operation can be sent over the engine's own pool,
over a connection that the caller lent, or from code without an event loop.
Nothing above these pages sees SQL, rows, cursors or pools.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from oban.engines.browsing import BrowsingVerbs
from oban.engines.commands import CommandVerbs
from oban.engines.cron import CronVerbs
from oban.engines.explain import ExplainVerbs
from oban.engines.history import HistoryVerbs
from oban.engines.jobs import JobVerbs
from oban.engines.limits import LimitVerbs
from oban.engines.metrics import MetricVerbs
from oban.engines.nodes import NodeVerbs
from oban.engines.operation import Operation
from oban.engines.reads import ReadVerbs
from oban.engines.rescue import RescueVerbs
from oban.engines.runs import RunVerbs
from oban.engines.signals import Signal
from oban.engines.stacks import StackVerbs

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Traits:
    """How databases differ, for whoever has to know."""

    name: str
    max_insert_jobs: int
    max_insert_bytes: int


class Session(Protocol):
    """One connection of our own, opened when first needed and again after it broke."""

    async def execute(self, operation: Operation[T]) -> T:
        """Carry out `operation`.

        Raises `DatabaseUnavailable` when nothing was done, `OutcomeUnknown` when the connection
        broke or the answer took too long, `DataRefused` for a value the database does not take,
        `Contended` when other writers were in the way after some tries. Cancelling the wait
        closes the connection: what was sent may have been done.
        """
        ...

    async def close(self) -> None: ...


class Engine(
    JobVerbs,
    ReadVerbs,
    BrowsingVerbs,
    ExplainVerbs,
    StackVerbs,
    RunVerbs,
    LimitVerbs,
    NodeVerbs,
    CommandVerbs,
    RescueVerbs,
    CronVerbs,
    HistoryVerbs,
    MetricVerbs,
    Protocol,
):
    """A database, and all that is done with jobs there."""

    traits: Traits

    async def open(self) -> None:
        """Make ready to execute. Raises `SchemaError` when the tables are missing or too old."""
        ...

    async def close(self) -> None: ...

    async def execute(self, operation: Operation[T], conn: object | None = None) -> T:
        """Carry out `operation` in one transaction: the caller's when `conn` is given.

        On `conn` the driver's own errors are raised, and nothing is retried or committed.
        Raises `UnsupportedConnection` for a `conn` of a kind nobody knows.
        """
        ...

    def execute_sync(self, operation: Operation[T], conn: object | None = None) -> T:
        """The same from code without a running event loop."""
        ...

    def session(self, label: str, patience: float | None = None) -> Session:
        """A connection of one's own, which waits `patience` seconds for an answer."""
        ...

    def signals(self) -> AsyncIterator[Signal]:
        """Listen until closed; begins with, and after each gap repeats, a `Resync`."""
        ...
