"""Running a job where it is enqueued, without a database: for tests, and for `process_job`."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final

from oban.job import FINAL, Job, encode
from oban.outcome import Ack
from oban.running.executor import Executor
from oban.running.run import Run

#: Jobs that were never stored are told apart by ids of their own.
INLINE_IDS: Final = count(1)


async def run_inline(executor: Executor, job: Job) -> Job:
    """Run one attempt of `job` now and return it as the database would have it afterwards."""
    now = datetime.now(UTC)
    claimed = replace(
        through_json(job),
        id=job.id or next(INLINE_IDS),
        attempt=job.attempt + 1,
        inserted_at=job.inserted_at or now,
        scheduled_at=job.scheduled_at or now,
        attempted_at=now,
    )
    return apply(claimed, await executor.execute(Run(claimed)))


def through_json(job: Job) -> Job:
    """What the worker would see after the job was stored."""
    return replace(job, args=json.loads(encode(job.args)), meta=json.loads(encode(job.meta)))


def apply(job: Job, ack: Ack) -> Job:
    """The effect of an Ack on the value of a job, as a turn has it on the row."""
    now = datetime.now(UTC)
    job.state = ack.state
    if not ack.counted:
        job.attempt -= 1
    if ack.delay is not None:
        job.scheduled_at = now + timedelta(seconds=ack.delay)
    if ack.meta is not None:
        job.meta = {**job.meta, **as_json(ack.meta)}
    if ack.error is not None:
        entry = {"attempt": ack.attempt, "at": now.isoformat(), "error": ack.error}
        job.errors = [*job.errors, entry]
    if ack.state in FINAL:
        setattr(job, f"{ack.state}_at", now)
    return job


def as_json(meta: Mapping[str, object]) -> dict[str, object]:
    loaded: dict[str, object] = json.loads(encode(dict(meta)))
    return loaded
