"""Limits over all nodes: of a queue, of its partitions, and shared by queues."""

from collections.abc import Mapping
from typing import Protocol

from oban.engines.commands import Aspect, Commandable
from oban.engines.operation import Operation
from oban.limits import LimitInfo, Limits, Partition


class LimitVerbs(Protocol):
    def open_limits(
        self,
        queue: str,
        partition: Partition | None,
        shared: Mapping[str, Limits],
        *,
        overrule: bool,
    ) -> Operation[None]:
        """Store what this node says of the queue's partitions, and of limits that queues share.

        Where others have said something else it stays, unless they are to be overruled.
        """
        ...

    def place(self, queue: str, limit: int) -> Operation[int]:
        """Put up to `limit` available jobs of the queue in the lane they belong in; how many."""
        ...

    def forget_limiters(self) -> Operation[int]:
        """Forget what was kept of partitions for long enough to mean nothing; how many."""
        ...

    def scale_limit(self, name: str, given: Mapping[Aspect, Commandable]) -> Operation[bool]:
        """Let other options hold for a shared limit, which the nodes do not overrule.

        Return whether there is such a limit.
        """
        ...

    def reset_limit(self, name: str) -> Operation[bool]:
        """Let what the nodes say of a shared limit hold again; whether something else did."""
        ...

    def shared_limits(self) -> Operation[list[LimitInfo]]:
        """All limits that queues share, by name."""
        ...
