"""Finished jobs are kept for a while, and pruned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from oban.engines.operation import Operation


@dataclass(frozen=True, slots=True)
class Keep:
    """How long finished jobs of a queue and state are kept, and how many of them."""

    #: None is for all queues without a rule of their own.
    queue: str | None
    state: str
    max_age: float | None
    max_count: int | None


class HistoryVerbs(Protocol):
    def prune(
        self,
        kept: Sequence[Keep],
        limit: int,
        *,
        counts: bool = False,
        spared: Sequence[int] = (),
        ids: Sequence[int] | None = None,
    ) -> Operation[int]:
        """Delete up to `limit` finished jobs of our queues that need not be kept. How many.

        All but `spared`, and only `ids` where they are given. What ended of late is left until it
        is counted for metrics, where somebody has counted of late, or is about to: `counts`.
        """
        ...

    def prunable(
        self,
        kept: Sequence[Keep],
        limit: int,
        *,
        counts: bool = False,
        spared: Sequence[int] = (),
    ) -> Operation[list[int]]:
        """What `prune` would delete."""
        ...
