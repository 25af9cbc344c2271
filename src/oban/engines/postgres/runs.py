"""The verbs of a running node: turns, staging, and what follows a turn of unknown fate."""

# What a verb builds has annotations too, which would be evaluated at each call.
from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from oban.engines.postgres.limits import MOST_LANES, SPANS
from oban.engines.postgres.rows import EARLIEST, EPOCH, LATEST, read_claimed
from oban.engines.postgres.statements import PostgresOperation, Statement, Steps
from oban.engines.postgres.verbs import Verbs
from oban.engines.runs import Head, Place, ProducerIdentity, Staged, Turn
from oban.errors import DatabaseUnavailable, DataRefused
from oban.fields import encode
from oban.job import Job
from oban.limits import QueueLimits
from oban.outcome import Ack, AttemptKey

#: What several acks in one statement may take. More are refused, to be sent in parts; a huge one
#: goes alone.
MAX_TURN_BYTES: Final = 16_000_000


#: Before every job.
FIRST: Final = Place(-32_768, "-infinity", 0)


class RunVerbs(Verbs):
    def turn(
        self,
        producer: ProducerIdentity,
        acks: Sequence[Ack],
        demand: int,
        start: Place | None = None,
        limits: QueueLimits | None = None,
        *,
        from_lane: str | None = None,
        skipped: Sequence[str] = (),
        any_lane: bool = False,
    ) -> PostgresOperation[Turn]:
        payload = acks_payload(acks)
        claiming: dict[str, Any] = {
            "acks": payload,
            "demand": demand,
            "uuid": producer.uuid,
            "node": producer.node,
            "queue": producer.queue,
        }

        def statement() -> Statement:
            if limits is None:
                priority, scheduled_at, identity = start or FIRST
                claiming["start_priority"] = priority
                claiming["start_at"] = scheduled_at
                claiming["start_id"] = identity
                if any_lane:
                    return self.sql("unlimited_turn", **claiming)
                return self.sql("turn", **claiming)
            return self.sql(
                "limited_turn",
                global_limit=limits.global_limit,
                allowed=limits.allowed,
                period=limits.period,
                spans=SPANS,
                most_lanes=MOST_LANES,
                from_lane=from_lane or "",
                skipped=list(skipped),
                insert_channel=self.channels.insert,
                **claiming,
            )

        def steps() -> Steps[Turn]:
            (first, *rows) = yield statement()
            unsaved, held, again_in, last_lane, unknown, refusing, is_rated, *_ = first
            acknowledged = frozenset(ack.id for ack in acks).difference(unsaved)
            claimed = sorted(read_claimed((row[7:] for row in rows), producer), key=start_order)
            last = place_of(claimed[-1]) if claimed else None
            return Turn(
                acknowledged,
                frozenset(held),
                tuple(claimed),
                last,
                again_in,
                last_lane,
                tuple(unknown or ()),
                tuple(refusing or ()),
                bool(is_rated),
            )

        return PostgresOperation("turn", steps)

    def end_lost_turns(self, producer: ProducerIdentity) -> PostgresOperation[None]:
        def steps() -> Steps[None]:
            rows = yield self.sql("end_lost_turns", label=producer.label)
            if not all(ended for (ended,) in rows):
                raise DatabaseUnavailable(
                    f"a lost session of queue {producer.queue!r} has not ended on the server yet"
                )

        return PostgresOperation("end_lost_turns", steps)

    def give_back(
        self, producer: ProducerIdentity, kept: Sequence[AttemptKey] = ()
    ) -> PostgresOperation[list[int]]:
        payload = encode(key_rows(kept))

        def steps() -> Steps[list[int]]:
            rows = yield self.sql(
                "give_back",
                uuid=producer.uuid,
                kept=payload,
                insert_channel=self.channels.insert,
            )
            return sorted(row[0] for row in rows)

        return PostgresOperation("give_back", steps)

    def stopped(
        self, producer: ProducerIdentity, running: Sequence[AttemptKey]
    ) -> PostgresOperation[frozenset[AttemptKey]]:
        payload = encode(key_rows(running))

        def steps() -> Steps[frozenset[AttemptKey]]:
            rows = yield self.sql("stopped_attempts", uuid=producer.uuid, running=payload)
            return frozenset((row[0], row[1]) for row in rows)

        return PostgresOperation("stopped", steps)

    def stage(self, queues: Sequence[str], limit: int) -> PostgresOperation[Staged]:
        def steps() -> Steps[Staged]:
            rows = yield self.sql(
                "stage_jobs",
                queues=list(queues),
                limit=limit,
                insert_channel=self.channels.insert,
            )
            ((staged_count, discarded_count, _, found, laned, misplaced, next_due_in, at),) = rows
            heads = {
                queue: Head(Place(*place), sought_for, queue in laned)
                for queue, *place, sought_for in json.loads(found)
            }
            return Staged(staged_count, discarded_count, heads, next_due_in, at, misplaced)

        return PostgresOperation("stage", steps)

    def hasten(self, queue: str) -> PostgresOperation[int]:
        return self.counted("hasten_jobs", queue=queue)

    def clear(self) -> PostgresOperation[int]:
        return self.counted("clear_jobs")


def acks_payload(acks: Sequence[Ack]) -> str:
    """The acks as JSON. Raises DataRefused where one statement cannot take all of them."""
    rows: list[str] = []
    size = 0
    for ack in acks:
        try:
            rows.append(ack_json(ack))
        except (TypeError, ValueError, RecursionError) as error:
            raise DataRefused(f"the result of job {ack.id} is not JSON: {error}") from error
        size += len(rows[-1])
        if size > MAX_TURN_BYTES and len(rows) > 1:
            raise DataRefused(f"{len(acks)} results take more than {MAX_TURN_BYTES} bytes")
    return f"[{','.join(rows)}]"


def ack_json(ack: Ack) -> str:
    """What the statement is told of one ack; most have no details."""
    if (
        ack.error is None
        and ack.delay is None
        and ack.meta is None
        and ack.counted
        and not ack.slows
    ):
        return f'{{"id":{ack.id},"attempt":{ack.attempt},"state":"{ack.state}"}}'
    return encode(
        {
            "id": ack.id,
            "attempt": ack.attempt,
            "state": ack.state,
            "error": ack.error,
            "delay": ack.delay,
            "meta": ack.meta,
            "uncounted": not ack.counted,
            "slows": ack.slows,
        }
    )


def key_rows(keys: Sequence[AttemptKey]) -> list[dict[str, int]]:
    return [{"id": identity, "attempt": attempt} for identity, attempt in keys]


def place_of(job: Job) -> Place:
    """Where a claimed job stood. One whose time is beyond the calendar stood at an end of it."""
    at = job.scheduled_at
    if at is None or at in (EARLIEST, LATEST):
        return FIRST
    return Place(job.priority, at.replace(tzinfo=None).isoformat(" "), job.id or 0)


def start_order(job: Job) -> tuple[object, ...]:
    return (job.priority, job.scheduled_at or EPOCH, job.id)
