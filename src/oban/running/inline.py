"""Running a job where it is enqueued, without a database: for tests, and for `process_job`."""

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final

from oban.fields import to_json
from oban.job import Job
from oban.outcome import Ack
from oban.running.executor import Executor
from oban.running.run import Run
from oban.states import FINAL, JobState

#: Jobs that were never stored are told apart by ids of their own.
INLINE_IDS: Final = count(1)


async def run_inline(executor: Executor, job: Job) -> Job:
    """Run one attempt of `job` now, due or not, and return it as it would be in the database.

    Raises what the job raises: in a test a failure shows where it is, and nobody would retry it.
    """
    stored = as_claimed(job)
    # The worker gets its own copy: what it changes there, the database would never see.
    given = replace(stored, args=deepcopy(stored.args), meta=deepcopy(stored.meta))
    ack, error = await executor.attempt(Run(given))
    if error is not None:
        raise error
    return apply(stored, ack)


def as_claimed(job: Job) -> Job:
    """What the worker would be given after the job was stored and claimed: a copy through JSON."""
    now = datetime.now(UTC)
    return replace(
        job,
        id=job.id or next(INLINE_IDS),
        state=JobState.EXECUTING,
        args=through_json("args", job.args),
        meta=through_json("meta", job.meta),
        attempt=job.attempt + 1,
        inserted_at=job.inserted_at or now,
        scheduled_at=job.scheduled_at or now,
        attempted_at=now,
    )


def through_json(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(to_json(name, value))
    return stored


def apply(job: Job, ack: Ack) -> Job:
    """The effect of an Ack on the value of a job, as a turn has it on the row."""
    now = datetime.now(UTC)
    job.state = ack.state
    if not ack.counted:
        job.attempt -= 1
    if ack.delay is not None:
        job.scheduled_at = now + timedelta(seconds=ack.delay)
    if ack.meta is not None:
        job.meta = {**job.meta, **through_json("meta", ack.meta)}
    if ack.error is not None:
        entry = {"attempt": ack.attempt, "at": now.isoformat(), "error": ack.error}
        job.errors = [*job.errors, entry]
    if ack.state in FINAL:
        setattr(job, f"{ack.state}_at", now)
    return job
