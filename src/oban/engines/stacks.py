"""Where the code of a running job is, asked and told from node to node."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from oban.engines.operation import Operation


@dataclass(frozen=True, slots=True)
class ToldStack:
    """Where the code of a running job was, as its node has told."""

    node: str
    told_at: datetime
    stack: str


class StackVerbs(Protocol):
    def ask_stack(self, job_id: int) -> Operation[datetime]:
        """Ask the node that runs the job where its code is; it answers by `tell_stack`. When."""
        ...

    def tell_stack(self, job_id: int, node: str, stack: str) -> Operation[None]: ...

    def told_stack(self, job_id: int) -> Operation[ToldStack | None]:
        """What was told of the job in the last minute."""
        ...
