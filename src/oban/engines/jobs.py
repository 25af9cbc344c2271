"""Jobs that are inserted, and changed by hand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from oban.engines.operation import Operation
from oban.job import Job


@dataclass(frozen=True, slots=True)
class Retried:
    """What came of retrying jobs; those that are in neither list could not be retried."""

    ids: Sequence[int]
    #: Those whose unique key a job like them has taken.
    conflicted: Sequence[int] = ()


class JobVerbs(Protocol):
    def insert(
        self, jobs: Sequence[Job], *, notify: bool = True, patience: float | None = None
    ) -> Operation[list[Job]]:
        """Insert all or none; return copies with the database's values, in the same order.

        In the place of a unique job that has a like stands that one. Where another transaction
        has its key, it is waited for; `patience` seconds at most, then it is `UniqueKeyBusy`.
        """
        ...

    def pour(
        self, jobs: Sequence[Job], *, notify: bool = True, patience: float | None = None
    ) -> Operation[int]:
        """Insert all or none; return how many, and nothing that would take memory."""
        ...

    def ring(self, queues: Sequence[str]) -> Operation[None]:
        """Tell the nodes that there are jobs in these queues."""
        ...

    def cancel(self, ids: Sequence[int]) -> Operation[list[int]]:
        """Cancel what is unfinished, at once; running code is asked to stop. Ids that changed."""
        ...

    def retry(self, ids: Sequence[int]) -> Operation[Retried]:
        """Make available what rests or waits; never what runs, nor what has a like meanwhile."""
        ...

    def delete(self, ids: Sequence[int]) -> Operation[list[int]]:
        """Delete what does not run. Ids that are gone."""
        ...

    def update(
        self, ids: Sequence[int], changes: Callable[[Job], Mapping[str, Any]]
    ) -> Operation[list[Job]]:
        """Read, change and write under one lock; return the changed jobs that exist, in order."""
        ...
