"""What the verbs of an engine mean, said once more over plain values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from oban.outcome import Ack, AttemptKey
from oban.states import MOVES, WAITING, JobState

S = JobState
DUE: Final = (S.SCHEDULED, S.RETRYABLE)


@dataclass
class ModelJob:
    id: int
    state: JobState
    queue: str
    priority: int
    max_attempts: int
    scheduled_at: datetime
    attempt: int = 0
    meta: dict[str, Any] = field(default_factory=dict)
    error_count: int = 0
    owner: str | None = None
    stopping: bool = False

    def move(self, state: JobState) -> None:
        assert state in MOVES[self.state], f"{self.state} -> {state}"
        self.state = state

    def claim(self, owner: str) -> None:
        self.move(S.EXECUTING)
        self.attempt += 1
        self.owner = owner

    def is_due(self) -> bool:
        return self.scheduled_at <= datetime.now(UTC)

    def is_claimable(self) -> bool:
        return self.state is S.AVAILABLE and self.attempt < self.max_attempts

    def is_busy(self) -> bool:
        return self.state is S.EXECUTING or self.stopping

    def is_run_by(self, owner: str, attempt: int) -> bool:
        """The fence."""
        running = self.state is S.EXECUTING or (self.state is S.CANCELLED and self.stopping)
        return running and (self.owner, self.attempt) == (owner, attempt)


class Model:
    """Each verb returns what the engine is to return. Times are taken from the rows afterwards."""

    def __init__(self) -> None:
        self.jobs: dict[int, ModelJob] = {}
        self.registered: set[str] = set()

    def among(self, ids: Iterable[int]) -> list[ModelJob]:
        return [self.jobs[each] for each in sorted(set(ids)) if each in self.jobs]

    def turn(
        self, owner: str, queue: str, acks: Iterable[Ack], demand: int
    ) -> tuple[set[int], list[int]]:
        """What is claimed was available before the acks of the same turn."""
        waiting = [job for job in self.jobs.values() if job.queue == queue and job.is_claimable()]
        waiting.sort(key=lambda job: (job.priority, job.scheduled_at, job.id))
        claimed = waiting[:demand] if owner in self.registered else []
        acknowledged = {ack.id for ack in acks if self.acknowledge(owner, ack)}
        for job in claimed:
            job.claim(owner)
        return acknowledged, [job.id for job in claimed]

    def acknowledge(self, owner: str, ack: Ack) -> bool:
        job = self.jobs.get(ack.id)
        if job is None or not job.is_run_by(owner, ack.attempt):
            return False
        if job.state is S.EXECUTING:
            job.move(ack.state)
            job.attempt -= not ack.counted
        job.meta |= ack.meta or {}
        job.error_count += ack.error is not None
        job.stopping = False
        return True

    def cancel(self, ids: Iterable[int]) -> list[int]:
        changed = [job for job in self.among(ids) if S.CANCELLED in MOVES[job.state]]
        for job in changed:
            job.stopping = job.state is S.EXECUTING and job.owner in self.registered
            job.move(S.CANCELLED)
        return [job.id for job in changed]

    def claim_elsewhere(self, owner: str, ids: Iterable[int]) -> None:
        """By a producer that is none of ours."""
        for job in self.among(ids):
            if job.is_claimable():
                job.claim(owner)

    def cancel_elsewhere(self, ids: Iterable[int]) -> None:
        """As Oban for Elixir does it: nothing says that the code still runs."""
        for job in self.among(ids):
            if job.state is S.EXECUTING:
                job.move(S.CANCELLED)

    def exhaust(self, ids: Iterable[int]) -> None:
        """Somebody takes the attempts of available jobs."""
        for job in self.among(ids):
            if job.state is S.AVAILABLE:
                job.attempt = job.max_attempts

    def retry(self, ids: Iterable[int]) -> list[int]:
        changed = [
            job for job in self.among(ids) if S.AVAILABLE in MOVES[job.state] and not job.is_busy()
        ]
        for job in changed:
            job.move(S.AVAILABLE)
            job.meta = {key: value for key, value in job.meta.items() if key != "crashes"}
            job.max_attempts = max(job.max_attempts, job.attempt + 1)
        return [job.id for job in changed]

    def delete(self, ids: Iterable[int]) -> list[int]:
        gone = [job.id for job in self.among(ids) if not job.is_busy()]
        for each in gone:
            del self.jobs[each]
        return gone

    def update(self, ids: Iterable[int], changes: Mapping[str, Any]) -> list[int] | None:
        """None where it is refused as a whole."""
        jobs = self.among(ids)
        if any(changes.get("max_attempts", job.max_attempts) < job.attempt for job in jobs):
            return None
        for job in jobs:
            for name, value in changes.items():
                setattr(job, name, value)
            if "scheduled_at" in changes and job.state in (S.AVAILABLE, S.SCHEDULED):
                job.state = S.AVAILABLE if job.is_due() else S.SCHEDULED
        return [job.id for job in jobs]

    def stage(self, queues: Iterable[str]) -> tuple[int, int, set[str]]:
        waiting = [job for job in self.jobs.values() if job.state in WAITING]
        due = [job for job in waiting if job.state in DUE and job.is_due()]
        exhausted = [
            job
            for job in waiting
            if job.state is S.AVAILABLE and not job.is_claimable() and job.queue in queues
        ]
        available = {job.queue for job in waiting if job.is_claimable()} | {
            job.queue for job in due
        }
        for job in due:
            job.move(S.AVAILABLE)
        for job in exhausted:
            job.move(S.DISCARDED)
            job.error_count += 1
        return len(due), len(exhausted), available & set(queues)

    def give_back(self, owner: str, kept: Iterable[AttemptKey]) -> list[int]:
        lost = [
            job
            for job in self.among(self.jobs)
            if job.owner == owner and job.is_busy() and (job.id, job.attempt) not in set(kept)
        ]
        for job in lost:
            if job.state is S.EXECUTING:
                job.move(S.AVAILABLE)
                job.attempt -= 1
            job.stopping = False
        return [job.id for job in lost]

    def stopped(self, owner: str, running: Iterable[AttemptKey]) -> set[AttemptKey]:
        lost = set()
        for identity, attempt in running:
            job = self.jobs.get(identity)
            ours = job is not None and (job.owner, job.attempt) == (owner, attempt)
            if job is not None and ours and job.state is S.EXECUTING:
                continue
            lost.add((identity, attempt))
            if job is not None and ours and job.state is S.CANCELLED:
                job.stopping = True
        return lost

    def rescue(self, owner: str, *, begun: bool, max_crashes: int) -> list[int]:
        """Its producer fell silent after a beat that told whether what it had claimed had begun."""
        victims = [job for job in self.among(self.jobs) if job.owner == owner and job.is_busy()]
        for job in victims:
            job.stopping = False
            if job.state is not S.EXECUTING:
                continue
            if not begun:
                job.move(S.AVAILABLE)
                job.attempt -= 1
                continue
            crashes = job.meta.get("crashes", 0) + 1
            job.meta = {**job.meta, "crashes": crashes}
            job.error_count += 1
            over = crashes >= max_crashes or job.attempt >= job.max_attempts
            job.move(S.DISCARDED if over else S.AVAILABLE)
        return [job.id for job in victims]

    def forget(self, owner: str) -> None:
        if not any(job.owner == owner and job.is_busy() for job in self.jobs.values()):
            self.registered.discard(owner)
