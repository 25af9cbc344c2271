"""Running a queue from a test, job after job, as a node would."""

from typing import Final
from uuid import uuid4

from oban.engines.base import Engine
from oban.engines.runs import ProducerIdentity
from oban.job import Job
from oban.oban import Oban
from oban.outcome import Ack
from oban.running.run import Run
from oban.states import JobState
from oban.testing.isolation import instance_of

OUTCOMES: Final = (
    JobState.CANCELLED,
    JobState.COMPLETED,
    JobState.DISCARDED,
    JobState.RETRYABLE,
    JobState.SCHEDULED,
)
#: Claimed at once when jobs enqueued meanwhile are to be left alone.
ALL: Final = 1_000_000
#: Seconds that a drain may take before a node thinks that its process has died.
LONGEST: Final = 86_400.0


async def drain_queue(
    queue: str = "default",
    oban: Oban | str = "Oban",
    with_recursion: bool = True,
    with_safety: bool = False,
    with_scheduled: bool = True,
) -> dict[str, int]:
    """Run the jobs of `queue` here and now, one at a time, and count how they ended.

    They run in the order of a node with a limit of 1, and end in the table as they do there. With
    recursion those enqueued meanwhile run as well. Scheduled and retryable jobs are made available
    first; one that is scheduled or fails during the drain waits for the next. A job that raises
    ends the drain with its exception, after it is recorded; with safety it is only counted.
    """
    instance = instance_of(oban)
    drain = Drain(instance, queue)
    await drain.engine.execute(drain.engine.register(drain.identity, LONGEST))
    try:
        if with_scheduled:
            await drain.engine.execute(drain.engine.hasten(queue))
        if with_recursion:
            while claimed := await drain.claim(1):
                await drain.run(claimed, with_safety)
        else:
            await drain.run(await drain.claim(ALL), with_safety)
    finally:
        await drain.end()
    return drain.counts


class Drain:
    def __init__(self, oban: Oban, queue: str) -> None:
        self.engine: Engine = oban.engine
        self.executor = oban.executor
        self.identity = ProducerIdentity(str(uuid4()), oban.name, oban.node, queue)
        self.counts: dict[str, int] = {str(state): 0 for state in OUTCOMES}

    async def claim(self, demand: int) -> tuple[Job, ...]:
        turn = await self.engine.execute(self.engine.turn(self.identity, [], demand, any_lane=True))
        return turn.claimed

    async def run(self, jobs: tuple[Job, ...], with_safety: bool) -> None:
        for job in jobs:
            ack, error = await self.executor.attempt(Run(job))
            await self.save(ack)
            if error is not None and not with_safety:
                raise error

    async def save(self, ack: Ack) -> None:
        await self.engine.execute(self.engine.turn(self.identity, [ack], 0))
        # One that was cancelled or deleted while it ran has ended as that, whatever it returned.
        for job in await self.engine.execute(self.engine.get([ack.id])):
            self.counts[job.state] += 1

    async def end(self) -> None:
        """Leave the table as if we had never been: what was claimed and not run goes back."""
        await self.engine.execute(self.engine.give_back(self.identity))
        await self.engine.execute(self.engine.forget([self.identity.uuid]))
