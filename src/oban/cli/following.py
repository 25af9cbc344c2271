"""Jobs as they end: found by looking again and again, each told once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from oban.engines.base import Engine, Session
from oban.engines.browsing import JobSearch
from oban.engines.operation import Operation
from oban.job import Job
from oban.states import FINAL, JobState

T = TypeVar("T")

#: The states that a run leads to, in the order in which they are told of.
ENDS: Final = (*sorted(FINAL), JobState.RETRYABLE)
#: Seconds that a read may take.
PATIENCE: Final = 5.0
#: Seconds between the moment that a job's end is given and that at which all can see it, at most.
OVERLAP: Final = timedelta(seconds=5)
#: Jobs of one state that a look tells of; of more than that, the last.
MOST_TOLD: Final = 100
#: Jobs of one state that a look finds.
MOST_FOUND: Final = 10_000


@dataclass(frozen=True, slots=True)
class Ended:
    """What has ended since the last look."""

    #: In the order in which they ended.
    jobs: Sequence[Job]
    #: By state, how many more there were, as far as was looked.
    more: Mapping[JobState, int] = field(default_factory=dict)


class Follower:
    """Finds each job that ends, also one whose end is seen late: its transaction took a while.

    Each look reads again what ended within the last seconds, and leaves out what the look before
    it has found. A job that fails and is to run again has no time of its end to be found by: it is
    known by the beginning of its attempt, and one that began before that by no longer running. One
    that fails again soon is found again, and known by its attempt.
    """

    def __init__(
        self, engine: Engine, session: Session, wanted: JobSearch, states: Sequence[JobState]
    ) -> None:
        self.engine = engine
        self.session = session
        self.wanted = wanted
        self.states = states
        #: What the last look has found, told or not.
        self.found: Mapping[JobState, frozenset[int]] = {}
        self.running: frozenset[int] = frozenset()
        #: Of the jobs that have failed and are to run again, the attempt that was told.
        self.failed: Mapping[int, int] = {}
        #: When that was, by the database's clock.
        self.looked_at: datetime | None = None

    async def begin(self) -> None:
        """Take note of what has ended already, and is not to be told."""
        self.looked_at = await self.read(self.engine.now())
        await self.look()

    async def look(self) -> Ended:
        """What has ended since the last look. One that fails can be had again: nothing is lost."""
        asked_at = await self.read(self.engine.now())
        since = (self.looked_at or asked_at) - OVERLAP
        # In this order: what ends in between is still found by what follows, and only once.
        running = frozenset(await self.ids(self.search(JobState.EXECUTING)))
        found = {state: await self.ids(self.search(state, since)) for state in self.states}
        if gone := JobState.RETRYABLE in found and self.running - running:
            search = replace(self.search(JobState.RETRYABLE), ids=sorted(gone))
            found[JobState.RETRYABLE] += await self.ids(search)
        jobs, more = [], {}
        for state, ids in found.items():
            seen = self.found.get(state, frozenset())
            new = [each for each in dict.fromkeys(ids) if each not in seen]
            jobs += [job for job in await self.get(new[:MOST_TOLD]) if job.state == state]
            if len(new) > MOST_TOLD:
                more[state] = len(new) - MOST_TOLD
        again = await self.get(self.told_before(found.get(JobState.RETRYABLE, [])))
        jobs += [
            job
            for job in again
            if job.state == JobState.RETRYABLE and job.attempt != self.failed[job.id or 0]
        ]
        failed = [job for job in [*again, *jobs] if job.state == JobState.RETRYABLE]
        self.failed = {job.id or 0: job.attempt for job in failed[-MOST_TOLD:]}
        self.found = {state: frozenset(ids) for state, ids in found.items()}
        self.running, self.looked_at = running, asked_at
        return Ended(sorted(jobs, key=lambda job: (ended_at(job), job.id or 0)), more)

    def told_before(self, ids: Sequence[int]) -> list[int]:
        """Of jobs that have failed, those that may have done so again."""
        seen = self.found.get(JobState.RETRYABLE, frozenset())
        return [each for each in dict.fromkeys(ids) if each in seen and each in self.failed]

    def search(self, state: JobState, since: datetime | None = None) -> JobSearch:
        return replace(self.wanted, state=state.value, since=since)

    async def ids(self, search: JobSearch) -> list[int]:
        """Of those that have ended, the last first."""
        ids, _ = await self.read(self.engine.browse_ids(search, MOST_FOUND, window=MOST_FOUND))
        return ids

    async def get(self, ids: Sequence[int]) -> list[Job]:
        return await self.read(self.engine.get(ids)) if ids else []

    async def read(self, operation: Operation[T]) -> T:
        return await self.session.execute(self.engine.within(operation, PATIENCE))


def ended_at(job: Job) -> datetime:
    """When it ended, or failed."""
    match job.state:
        case JobState.COMPLETED:
            at = job.completed_at
        case JobState.CANCELLED:
            at = job.cancelled_at
        case JobState.DISCARDED:
            at = job.discarded_at
        case _:
            at = failed_at(job)
    return at or job.attempted_at or datetime.min.replace(tzinfo=UTC)


def failed_at(job: Job) -> datetime | None:
    """When its last error was kept. A foreign row may hold anything."""
    try:
        at = datetime.fromisoformat(str(job.errors[-1]["at"]))
    except (ValueError, TypeError, KeyError, IndexError):
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at
