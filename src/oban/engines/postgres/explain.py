"""Reading what explains a job: a few statements, each by an index and within a bound."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard, cast

from oban.engines.commands import EVERY, Intent
from oban.engines.explain import MOST_AHEAD, JobFacts, KeyHolder, Room, Runner
from oban.engines.postgres.commands import read_intent
from oban.engines.postgres.limits import SPANS
from oban.engines.postgres.nodes import read_producer
from oban.engines.postgres.rows import COLUMNS, EPOCH, moment, read_job
from oban.engines.postgres.statements import PostgresOperation, Rows, Steps
from oban.engines.postgres.verbs import Verbs
from oban.job import Job
from oban.states import JobState

#: Producers, and commands, that are read at most.
MOST: Final = 500
#: Running jobs that are counted at most.
MOST_RUNNING: Final = 100_000
#: Seconds after which a producer of another package, which says nothing of that, is thought dead.
FOREIGN_AGE: Final = 60.0


class ExplainVerbs(Verbs):
    def explain(self, identity: int) -> PostgresOperation[JobFacts | None]:
        def steps() -> Steps[JobFacts | None]:
            yield self.sql("plan_simply", milliseconds=None)
            rows = yield self.sql("explain_job", id=identity)
            if not rows:
                return None
            (row,) = rows
            job = read_job(row)
            at, stopping_at, weight, lane, stands_at, is_partitioned, *holder = row[len(COLUMNS) :]
            uuid = job.attempted_by[1] if len(job.attempted_by) > 1 else None
            seen = yield self.sql(
                "explain_nodes", queue=job.queue, uuid=uuid, most=MOST, foreign_age=FOREIGN_AGE
            )
            nodes = [(read_runner(each), each[10]) for each in seen]
            runners = [
                each for each, concerned in nodes if concerned and queue_of(each) == job.queue
            ]
            intents = yield self.sql("explain_intents", queue=job.queue, every=EVERY, most=MOST)
            waiting: dict[str, Any] = {}
            if job.state == JobState.AVAILABLE:
                waiting = yield from self.explain_waiting(
                    job, runners, lane, stands_at, is_partitioned
                )
            return JobFacts(
                job=job,
                at=moment(at) or EPOCH,
                stopping_at=moment(stopping_at),
                weight=weight,
                is_unplaced=is_partitioned and lane is None,
                holder=None if holder[0] is None else KeyHolder(*holder),
                runners=runners,
                runner=next((each for each, _ in nodes if each.known.identity.uuid == uuid), None),
                living_queues=sorted(
                    {queue_of(each) for each, _ in nodes if each.is_ours and each.alive}
                ),
                intents=by_name(intents),
                **waiting,
            )

        return PostgresOperation("explain", steps, transactional=True, repeatable=True)

    def explain_waiting(
        self,
        job: Job,
        runners: Sequence[Runner],
        lane: str | None,
        stands_at: str,
        is_partitioned: bool,
    ) -> Steps[dict[str, Any]]:
        """What an available job has before it."""
        slots, allowed, period = queue_limits(runners)
        own = own_limiter(job.queue, lane, is_partitioned)
        if slots is None and allowed is None:
            own = None
        rooms = yield self.sql(
            "explain_limits",
            queue=job.queue,
            lane=lane,
            own=own,
            is_partitioned=is_partitioned,
            slots=slots,
            allowed=allowed,
            period=period,
            spans=SPANS,
            most=MOST_RUNNING,
        )
        ((ahead_count,),) = yield self.sql(
            "jobs_ahead",
            queue=job.queue,
            lane=lane,
            priority=job.priority,
            scheduled_at=stands_at,
            id=job.id,
            most=MOST_AHEAD + 1,
        )
        lags = yield self.sql("queue_lags", queues=[job.queue])
        return {
            "rooms": [read_room(row, job.queue, own) for row in rooms],
            "ahead_count": ahead_count,
            "oldest_wait": max((max(0.0, lag) for _, lag in lags), default=None),
        }


def queue_of(runner: Runner) -> str:
    return runner.known.identity.queue


def own_limiter(queue: str, lane: str | None, is_partitioned: bool) -> str | None:
    """Under which name is kept what holds for the queue, or for the partition of the lane."""
    if not is_partitioned:
        return f"queue {queue}"
    return None if lane is None else f"lane {lane[:32]} {queue}"


def queue_limits(runners: Sequence[Runner]) -> tuple[int | None, int | None, float | None]:
    """What the living node that started last holds to: jobs at once, and the rate."""
    living = [each.known for each in runners if each.is_ours and each.alive]
    told = max(living, key=lambda each: each.started_at or EPOCH).meta if living else {}
    slots, rate = told.get("global_limit"), told.get("rate_limit")
    most = int(slots) if is_limit(slots) else None
    if isinstance(rate, dict):
        allowed, period = rate.get("allowed"), rate.get("period")
        if is_limit(allowed) and is_limit(period):
            return most, int(allowed), float(period)
    return most, None, None


def is_limit(value: object) -> TypeGuard[float]:
    """Whether it can be one. Anybody may write to a table."""
    return type(value) in (int, float) and 0 < cast("float", value) < 2**31


def read_runner(row: Sequence[Any]) -> Runner:
    *known, is_ours, _, longest_id, longest_for = row
    return Runner(read_producer(known), is_ours, longest_id, longest_for)


def read_room(row: Sequence[Any], queue: str, own: str | None) -> Room:
    name, is_known, slots, running, allowed, period, started, reopens_in, resting = row
    scope, _, rest = str(name).partition(" ")
    return Room(
        scope="shared" if name != own else "queue" if scope == "queue" else "partition",
        name=rest if name != own else queue,
        slots=slots,
        running=running,
        allowed=allowed,
        period=period,
        started=started,
        reopens_in=None if reopens_in is None else max(0.0, reopens_in),
        resting=resting,
        is_known=is_known,
    )


def by_name(rows: Rows) -> Mapping[str, Sequence[Intent]]:
    found: dict[str, list[Intent]] = {}
    for name, intent in rows:
        found.setdefault(name, []).append(read_intent(json.loads(intent)))
    return found
