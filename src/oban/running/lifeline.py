"""The lifeline: finds out which other processes have died, and rescues what they ran."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from oban import telemetry
from oban.engines.base import Engine, Session
from oban.engines.nodes import Sighting
from oban.engines.rescue import Rescued
from oban.errors import DataRefused
from oban.options import LifelineOptions
from oban.running.loop import Loop
from oban.running.refused import isolate

#: Attempts rescued by one statement.
BATCH: Final = 5_000
#: Beats of our own that may fail to come, in intervals, before what we saw is worth nothing.
GAP: Final = 2
#: Seconds in which the others are back after an outage that we have seen.
RETURNING: Final = 5.0
#: How often attempts that are too old are looked for, as a part of their age, and in seconds.
OLD_SHARE: Final = 0.25
OLD_MOST: Final = 60.0
#: Seconds until a job is tried again that the database refused to change.
REFUSED_REST: Final = 60.0


@dataclass(slots=True)
class Silence:
    """One producer as it was seen, beat after beat, without a sign of life in between."""

    sighting: Sighting
    #: When it was first seen so, by our monotonic clock.
    since: float
    #: In how many of our beats, one after the other and each in time.
    beat_count: int

    @property
    def enough(self) -> float:
        """How long it must last: what the producer promised."""
        return self.sighting.max_age


class Silences:
    """Who has been silent, and for how long. Pure: the clock is the caller's.

    Only what was seen with a connection that worked all the time counts, and only by our own
    monotonic clock: a database that was away, a clock that was set, a process that was suspended
    and a node that has just started see nobody dead.
    """

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.observed_at: float | None = None
        self.known: dict[str, Silence] = {}
        #: Until then somebody may be silent because the database was away.
        self.patient_until = -math.inf

    def observe(self, sightings: Sequence[Sighting], now: float) -> None:
        if self.observed_at is not None and now - self.observed_at > GAP * self.interval:
            self.known = {}
            self.patient_until = now + RETURNING
        self.observed_at = now
        before, self.known = self.known, {}
        for seen in sightings:
            uuid = seen.identity.uuid
            silence = before.get(uuid)
            if silence is None or silence.sighting.beat_at != seen.beat_at:
                silence = Silence(seen, now, 0)
            silence.beat_count += 1
            self.known[uuid] = silence

    def due_at(self, silence: Silence) -> float:
        """When it will have lasted long enough, if nothing changes."""
        return max(silence.since + silence.enough, self.patient_until)

    def dead(self, now: float) -> list[Sighting]:
        """Those silent for long enough, as last seen."""
        if self.observed_at is None or now - self.observed_at > GAP * self.interval:
            return []
        return [
            silence.sighting
            for silence in self.known.values()
            if self.due_at(silence) <= now
            and silence.beat_count >= math.ceil(silence.enough / self.interval)
        ]

    def next_due_at(self, now: float) -> float:
        """When somebody may be found dead next, infinite when all give signs of life."""
        later = (self.due_at(silence) for silence in self.known.values())
        return min((at for at in later if at > now), default=math.inf)


class Lifeline(Loop):
    """Runs on every node; whoever saw the silence acts, and it does no harm that others do too."""

    name = "oban.lifeline"

    def __init__(
        self, engine: Engine, session: Session, options: LifelineOptions, interval: float
    ) -> None:
        super().__init__()
        self.engine = engine
        self.session = session
        self.options = options
        self.silences = Silences(interval)
        self.old_at = -math.inf
        #: Until when producers are left alone of whose jobs the database refused to change one.
        self.refused: dict[str, float] = {}

    def observe(self, sightings: Sequence[Sighting], now: float) -> None:
        self.silences.observe(sightings, now)
        self.alarm.wake()

    async def tick(self) -> float:
        now = time.monotonic()
        self.refused = {uuid: until for uuid, until in self.refused.items() if until > now}
        dead = self.silences.dead(now)
        if dead := [each for each in dead if each.identity.uuid not in self.refused]:
            await self.rescue(dead)
        if self.options.rescue_after is not None and now >= self.old_at:
            self.old_at = now + min(OLD_MOST, self.options.rescue_after * OLD_SHARE)
            await self.rescue_old(self.options.rescue_after)
        now = time.monotonic()
        return min(self.options.interval, self.silences.next_due_at(now) - now)

    async def rescue(self, dead: Sequence[Sighting]) -> None:
        with telemetry.span("oban.lifeline.rescue") as span:
            rescued: list[Rescued] = []
            try:
                while True:
                    batch = await self.rescue_some(dead)
                    rescued += batch
                    if len(batch) < BATCH:
                        break
            except DataRefused:
                rescued += await self.rescue_apart(dead)
            span.add(summary(rescued, dead))

    async def rescue_some(
        self, dead: Sequence[Sighting], ids: Sequence[int] | None = None
    ) -> list[Rescued]:
        return await self.session.execute(
            self.engine.rescue(dead, self.options.max_crashes, BATCH, ids)
        )

    async def rescue_apart(self, dead: Sequence[Sighting]) -> list[Rescued]:
        """Rescue all but the jobs that the database refuses to change; those wait for a while."""
        uuids = [each.identity.uuid for each in dead]
        rescued: list[Rescued] = []

        async def rescue(ids: Sequence[int]) -> None:
            rescued.extend(await self.rescue_some(dead, ids))

        def tell(job_id: int, error: DataRefused) -> None:
            metadata = {"job_id": job_id, **telemetry.describe_error(error)}
            telemetry.execute("oban.lifeline.refused", metadata)

        self.refused.update(dict.fromkeys(uuids, time.monotonic() + REFUSED_REST))
        attempts = await self.session.execute(self.engine.attempts_of(uuids))
        if not await isolate(attempts, rescue, tell):
            for uuid in uuids:  # mended meanwhile: a row that was locked need not wait
                del self.refused[uuid]
        return rescued

    async def rescue_old(self, age: float) -> None:
        with telemetry.span("oban.lifeline.rescue") as span:
            rescued = await self.session.execute(self.engine.rescue_old(age, BATCH))
            span.add(summary(rescued, []))


def summary(rescued: Sequence[Rescued], dead: Sequence[Sighting]) -> telemetry.Metadata:
    return {
        "rescued_count": len(rescued),
        "jobs": {each.id: each.fate for each in rescued},
        "nodes": sorted({sighting.identity.node for sighting in dead}),
    }
