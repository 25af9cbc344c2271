"""Who leads: one process of all that run an Oban of one name, for as long as its lease lasts."""

import math
import random
import time
from typing import Final
from uuid import uuid4

from oban import telemetry
from oban.engines.nodes import Lease

#: A follower looks this many seconds after the end of a lease, at most: not all look at once.
SPREAD: Final = 0.25


class Leader:
    """What this process knows of it. The heartbeat renews the lease, or takes one that has ended.

    By our own monotonic clock, from before the lease was asked for: we know of its end before
    anybody else can take it. All the same whatever a leader does is right with two of them.
    """

    def __init__(self, node: str, *, wanted: bool) -> None:
        self.node = node
        self.candidate = str(uuid4()) if wanted else None
        self.until = -math.inf
        #: The lease as last heard of, ours or another's, and when it ends.
        self.lease: Lease | None = None
        self.ends_at = -math.inf

    @property
    def is_leader(self) -> bool:
        return time.monotonic() < self.until

    def hear(self, lease: Lease | None, asked_at: float, length: float) -> None:
        led = self.until > -math.inf
        self.lease = lease
        self.ends_at = -math.inf if lease is None else time.monotonic() + lease.expires_in
        leads = lease is not None and lease.uuid == self.candidate
        self.until = asked_at + length if leads else -math.inf
        if leads != led:
            telemetry.execute("oban.leader.change", {"leader": leads, "node": self.node})

    def next_look(self) -> float:
        """Seconds until a follower may find the lease free; infinite for who leads or will not."""
        if self.candidate is None or self.is_leader:
            return math.inf
        spread = random.uniform(0, SPREAD)  # noqa: S311  # spreads load, hides nothing
        return max(0.0, self.ends_at - time.monotonic()) + spread
