"""What a queue may do on all nodes together."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """None is no limit."""

    #: Jobs that run at once.
    global_limit: int | None = None
    #: Weight of jobs that start within `period` seconds, wherever these begin.
    allowed: int | None = None
    period: float | None = None

    def __bool__(self) -> bool:
        return self.global_limit is not None or self.allowed is not None
