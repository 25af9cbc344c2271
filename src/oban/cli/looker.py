"""What `oban top` sees: a look at all of a system, within seconds however much there is."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

from oban.engines.base import Session
from oban.engines.browsing import JobSearch
from oban.engines.operation import Operation
from oban.job import Job
from oban.looking.census import Census, CensusTaker
from oban.looking.paces import ENDED, FAILED, SCALE, Pace, paces
from oban.looking.processes import Process, processes
from oban.looking.queues import QueueRow, queue_rows
from oban.oban import Oban
from oban.queue_control import queue_info
from oban.states import JobState

T = TypeVar("T")

#: Seconds that a read may take, and that an answer is waited for.
PATIENCE: Final = 3.0
MOST_SILENT: Final = 5.0
#: Seconds between two looks at what is kept by the minute.
PACE_AGE: Final = 5.0
#: Running jobs among which the slowest are found; those that began last are left out.
MOST_RUNNING: Final = 20_000
#: Running jobs that are shown.
MOST_SLOWEST: Final = 50


@dataclass(frozen=True, slots=True)
class Look:
    #: By the database's clock.
    at: datetime
    census: Census
    processes: Sequence[Process] = ()
    queues: Sequence[QueueRow] = ()
    paces: Mapping[str, Pace] = field(default_factory=dict)
    #: The running jobs that began first.
    slowest: Sequence[Job] = ()

    @property
    def leader(self) -> str | None:
        return next((each.node for each in self.processes if each.leads), None)


class Looker:
    def __init__(self, oban: Oban, session: Session) -> None:
        self.oban = oban
        self.session = session
        self.census = CensusTaker(oban.engine)
        self.paces: Mapping[str, Pace] = {}
        self.paced_at: datetime | None = None

    async def look(self, *, patiently: bool = False) -> Look:
        """What there is now. Counts may be older, unless they are waited for."""
        engine = self.oban.engine
        now = await self.read(engine.now())
        known = await self.read(engine.known_producers())
        commands = await self.read(engine.intents(self.oban.name))
        running, _ = await self.read(
            engine.browse_ids(JobSearch(state=JobState.EXECUTING), MOST_RUNNING)
        )
        slowest = await self.read(engine.get(running[: -MOST_SLOWEST - 1 : -1]))
        async with asyncio.timeout(None if patiently else MOST_SILENT):
            census = await (self.census.count() if patiently else self.census.look())
        found = processes(known)
        infos = [queue_info(each) for process in found for each in process.producers]
        queues = queue_rows(census.queues, infos, commands)
        for name, lag in (await self.read(engine.lags(list(queues)))).items():
            queues[name].lag = lag
        return Look(
            now,
            census,
            found,
            list(queues.values()),
            await self.pace(now),
            [job for job in slowest if job.state == JobState.EXECUTING],
        )

    async def pace(self, now: datetime) -> Mapping[str, Pace]:
        if self.paced_at is None or not 0 <= (now - self.paced_at).total_seconds() < PACE_AGE:
            engine = self.oban.engine
            ended = await self.read(engine.metrics("queue", SCALE, ENDED))
            failed = await self.read(engine.metrics("queue", SCALE, FAILED))
            self.paces, self.paced_at = paces(ended, failed, now), now
        return self.paces

    async def read(self, operation: Operation[T]) -> T:
        return await self.session.execute(self.oban.engine.within(operation, PATIENCE))


@asynccontextmanager
async def looker(oban: Oban) -> AsyncIterator[Looker]:
    # A connection of its own: in an outage a pool would wait for its timeout before it says so.
    session = oban.engine.session("oban top", MOST_SILENT)
    found = Looker(oban, session)
    try:
        yield found
    finally:
        await found.census.close()
        await session.close()
