"""What is commanded of queues: it is stored, and holds until something else is."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol

from oban.engines.operation import Operation

#: All queues, or all nodes.
EVERY: Final = "*"
Aspect = Literal["running", "limit", "paused", "global_limit", "rate_limit"]
#: What was commanded of an aspect; a rate is a table as in `RateLimitOptions`.
Commandable = bool | int | Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Intent:
    """What somebody commanded of a queue, or of all; of one node, or of all."""

    queue: str
    node: str
    aspect: Aspect
    value: Commandable
    #: Of two commands that concern the same queue the one with the greater version is newer.
    version: int
    set_at: datetime
    #: In how many seconds it ends by itself, None when it does not.
    expires_in: float | None = None

    def concerns(self, queue: str, node: str) -> bool:
        return self.queue in (queue, EVERY) and self.node in (node, EVERY)


class CommandVerbs(Protocol):
    def command(
        self,
        name: str,
        queue: str,
        node: str,
        aspects: Mapping[Aspect, Commandable],
        until: datetime | None = None,
    ) -> Operation[None]:
        """Store what is wanted of a queue, or of every one, on a node, or on all; tell the nodes.

        It holds until a newer command, a `reset`, or the time `until`.
        """
        ...

    def reset(self, name: str, queue: str, node: str | None) -> Operation[int]:
        """Forget what was commanded of a queue, or of every one; how much that was."""
        ...

    def intents(self, name: str) -> Operation[list[Intent]]:
        """What was commanded of an Oban's queues, the oldest first."""
        ...
