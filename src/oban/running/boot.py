"""Whether this process is the first of its Oban's name to live, as `@reboot` asks."""

import math
from collections.abc import Sequence
from typing import Final

from oban.engines.nodes import Lease, Sighting

#: Seconds by which the end of a lease is known, over the way that a beat takes.
BLUR: Final = 0.5


class Boot:
    """Watches those that were there before us, until one gives a sign of life or all are gone.

    They are known by the heartbeats of their queues, and by the lease of one that leads without
    any. A process that was killed a moment ago has left both behind; they go with its rescue and
    with the lease's end.
    """

    def __init__(self, name: str, candidate: str | None) -> None:
        self.name = name
        #: Under which uuid this process stands for leader.
        self.candidate = candidate
        self.elders: dict[str, float | None] | None = None
        #: When another's lease ends, by the observer's clock.
        self.led_until = -math.inf
        #: None as long as that is open.
        self.first: bool | None = None

    def observe(self, sightings: Sequence[Sighting], lease: Lease | None, now: float) -> None:
        if self.first is not None:
            return
        seen = {
            each.identity.uuid: each.beat_at
            for each in sightings
            if each.identity.name == self.name
        }
        is_led = lease is not None and lease.uuid != self.candidate
        led_until = now + lease.expires_in if lease is not None and is_led else -math.inf
        if self.elders is None:
            self.elders, self.led_until = seen, led_until
        beats = any(seen.get(uuid, before) != before for uuid, before in self.elders.items())
        if beats or led_until > self.led_until + BLUR:
            self.first = False
            return
        self.elders = {uuid: beat_at for uuid, beat_at in self.elders.items() if uuid in seen}
        if not self.elders and not is_led:
            self.first = True
