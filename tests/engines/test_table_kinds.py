"""Every verb that writes works on our tables, on Elixir's and on the published package's."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from oban import Job, JobState
from oban.engines.postgres import PostgresEngine
from oban.engines.runs import Place, ProducerIdentity
from oban.outcome import Ack

NOW = datetime.now(UTC)


@pytest.fixture
async def producer(engine: PostgresEngine) -> ProducerIdentity:
    producer = ProducerIdentity(str(uuid4()), "Oban", "node-1", "default")
    await engine.execute(engine.register(producer, 60.0))
    return producer


async def inserted(engine: PostgresEngine, *jobs: Job) -> list[int]:
    stored = await engine.execute(engine.insert(jobs or [Job(worker="app.Mailer")]))
    return [job.id for job in stored if job.id is not None]


async def claimed(engine: PostgresEngine, producer: ProducerIdentity) -> Job:
    """Insert a job and claim it."""
    await inserted(engine)
    turn = await engine.execute(engine.turn(producer, [], 1))
    (job,) = turn.claimed
    return job


async def acknowledged(
    engine: PostgresEngine, producer: ProducerIdentity, job: Job, state: JobState, **ack: Any
) -> Mapping[str, Any]:
    assert job.id is not None
    turn = await engine.execute(
        engine.turn(producer, [Ack(job.id, job.attempt, state, **ack)], demand=0)
    )
    assert turn.acknowledged == {job.id}
    return row(engine, job.id)


def row(engine: PostgresEngine, job_id: int) -> Mapping[str, Any]:
    """The row as any client sees it, with errors as one list whatever the column's type."""
    statement = "select job.*, to_jsonb(job.errors) as errors from oban_jobs job where id = %s"
    with psycopg.connect(conninfo(engine), row_factory=dict_row) as connection:
        found = connection.execute(statement, [job_id]).fetchone()
    assert found is not None
    return found


def conninfo(engine: PostgresEngine) -> str:
    conninfo = engine.pools.connector.conninfo
    assert isinstance(conninfo, str)
    return conninfo


def execute(engine: PostgresEngine, statement: str, *parameters: object) -> None:
    with psycopg.connect(conninfo(engine), autocommit=True) as connection:
        connection.execute(statement.encode(), parameters)


@pytest.mark.parametrize("at_once", [1, 3], ids=["one by one", "together"])
async def test_inserted_jobs_are_stored_with_every_field_and_read_back_as_they_were(
    engine: PostgresEngine, at_once: int
) -> None:
    jobs = [
        Job(worker="app.First", args={"n": 1}, tags=["a", "b"], meta={"m": None}, priority=9),
        Job(worker="app.Later", scheduled_at=NOW + timedelta(hours=1), queue="slow"),
        Job(worker="app.Waits", state=JobState.SUSPENDED, max_attempts=32_767),
    ]
    stored = [
        job
        for start in range(0, len(jobs), at_once)
        for job in await engine.execute(engine.insert(jobs[start : start + at_once]))
    ]
    assert [job.state for job in stored] == ["available", "scheduled", "suspended"]
    assert await engine.execute(engine.get([job.id or 0 for job in stored])) == stored
    first = row(engine, stored[0].id or 0)
    assert first["args"] == {"n": 1}
    assert first["tags"] == ["a", "b"]
    assert first["meta"] == {"m": None}
    assert first["errors"] == []
    assert first["priority"] == 9


async def test_a_claim_begins_where_it_is_told_to(
    engine: PostgresEngine, producer: ProducerIdentity
) -> None:
    jobs = await engine.execute(
        engine.insert([Job(worker="W", priority=n // 2, args={"n": n}) for n in range(6)])
    )
    first = (await engine.execute(engine.turn(producer, [], 3))).last
    assert first is not None
    assert (first.priority, first.id) == (1, jobs[2].id)
    behind = await engine.execute(engine.turn(producer, [], 2, Place(2, first.scheduled_at, 0)))
    assert [job.id for job in behind.claimed] == [jobs[4].id, jobs[5].id]
    assert (await engine.execute(engine.turn(producer, [], 5, behind.last))).claimed == ()
    rest = await engine.execute(engine.turn(producer, [], 5, first))
    assert [job.id for job in rest.claimed] == [jobs[3].id]


async def test_each_failed_attempt_appends_its_error(
    engine: PostgresEngine, producer: ProducerIdentity
) -> None:
    job = await claimed(engine, producer)
    assert job.attempted_by == ["node-1", producer.uuid]
    stored = await acknowledged(
        engine, producer, job, JobState.RETRYABLE, error="one: {'%s'}", delay=-1.0
    )
    assert (stored["state"], stored["attempt"]) == ("retryable", 1)
    staged = await engine.execute(engine.stage(["default"], 100))
    assert (staged.staged_count, staged.available_queues) == (1, frozenset({"default"}))

    (again,) = (await engine.execute(engine.turn(producer, [], 1))).claimed
    assert (again.id, again.attempt) == (job.id, 2)
    stored = await acknowledged(engine, producer, again, JobState.DISCARDED, error="two")
    assert stored["state"] == "discarded"
    assert stored["discarded_at"] is not None
    assert [(each["attempt"], each["error"]) for each in stored["errors"]] == [
        (1, "one: {'%s'}"),
        (2, "two"),
    ]
    assert all(datetime.fromisoformat(each["at"]).tzinfo is not None for each in stored["errors"])
    (read,) = await engine.execute(engine.get([again.id or 0]))
    assert read.errors == stored["errors"]


async def test_a_success_merges_its_meta(
    engine: PostgresEngine, producer: ProducerIdentity
) -> None:
    await inserted(engine, Job(worker="app.Mailer", meta={"kept": 1}))
    (job,) = (await engine.execute(engine.turn(producer, [], 5))).claimed
    stored = await acknowledged(engine, producer, job, JobState.COMPLETED, meta={"recorded": True})
    assert (stored["state"], stored["meta"]) == ("completed", {"kept": 1, "recorded": True})
    assert stored["completed_at"] is not None


async def test_a_snooze_is_not_counted(engine: PostgresEngine, producer: ProducerIdentity) -> None:
    job = await claimed(engine, producer)
    stored = await acknowledged(
        engine, producer, job, JobState.SCHEDULED, delay=60.0, counted=False, meta={"snoozed": 1}
    )
    assert (stored["state"], stored["attempt"], stored["meta"]) == ("scheduled", 0, {"snoozed": 1})
    assert stored["max_attempts"] == 20


async def test_rows_of_others_with_nulls_are_run_like_any_other(
    engine: PostgresEngine, producer: ProducerIdentity, kind: str
) -> None:
    if kind == "own":
        execute(engine, "insert into oban_jobs (worker) values ('app.Mailer')")
    else:
        execute(
            engine,
            "insert into oban_jobs (worker, tags, meta, attempted_by) "
            "values ('app.Mailer', null, null, null)",
        )
    (job,) = (await engine.execute(engine.turn(producer, [], 5))).claimed
    assert (job.tags, job.meta, job.errors) == ([], {}, [])
    stored = await acknowledged(
        engine, producer, job, JobState.RETRYABLE, error="e", delay=1.0, meta={"new": 1}
    )
    assert stored["meta"] == {"new": 1}
    assert [each["error"] for each in stored["errors"]] == ["e"]


async def test_a_cancelled_run_stays_busy_until_its_late_ack(
    engine: PostgresEngine, producer: ProducerIdentity
) -> None:
    job = await claimed(engine, producer)
    assert job.id is not None
    assert await engine.execute(engine.cancel([job.id])) == [job.id]
    assert row(engine, job.id)["state"] == "cancelled"
    assert row(engine, job.id)["stopping_at"] is not None
    assert (await engine.execute(engine.retry([job.id]))).ids == []
    assert await engine.execute(engine.delete([job.id])) == []
    gone = await engine.execute(engine.stopped(producer, [(job.id, 1)]))
    assert gone == {(job.id, 1)}

    stored = await acknowledged(engine, producer, job, JobState.RETRYABLE, error="late", delay=9.0)
    assert (stored["state"], stored["stopping_at"]) == ("cancelled", None)
    assert [each["error"] for each in stored["errors"]] == ["late"]


async def test_waiting_jobs_are_cancelled_retried_and_deleted(engine: PostgresEngine) -> None:
    first, second = await inserted(engine, Job(worker="app.A"), Job(worker="app.B"))
    assert await engine.execute(engine.cancel([first, second])) == [first, second]
    execute(engine, "update oban_jobs set attempt = max_attempts where id = %s", first)
    assert (await engine.execute(engine.retry([first]))).ids == [first]
    retried = row(engine, first)
    assert (retried["state"], retried["max_attempts"]) == ("available", 21)
    assert retried["cancelled_at"] is None
    assert await engine.execute(engine.delete([first, second])) == [first, second]
    assert await engine.execute(engine.get([first, second])) == []


async def test_jobs_given_back_are_available_and_not_counted(
    engine: PostgresEngine, producer: ProducerIdentity
) -> None:
    job = await claimed(engine, producer)
    assert job.id is not None
    assert await engine.execute(engine.give_back(producer, kept=[(job.id, 1)])) == []
    assert await engine.execute(engine.give_back(producer)) == [job.id]
    stored = row(engine, job.id)
    assert (stored["state"], stored["attempt"]) == ("available", 0)
    await engine.execute(engine.forget([producer.uuid]))
    assert (await engine.execute(engine.turn(producer, [], 1))).claimed == ()


async def test_updates_write_every_field_and_move_to_what_the_time_means(
    engine: PostgresEngine,
) -> None:
    (job_id,) = await inserted(engine)
    changes = {
        "args": {"n": [1, None]},
        "meta": {"k": "v"},
        "tags": ["x"],
        "queue": "other",
        "worker": "app.Other",
        "priority": 3,
        "max_attempts": 5,
        "scheduled_at": NOW + timedelta(days=1),
    }
    (job,) = await engine.execute(engine.update([job_id], lambda _: changes))
    assert {name: getattr(job, name) for name in changes} == changes
    assert job.state == "scheduled"
    assert await engine.execute(engine.get([job_id])) == [job]


async def test_a_job_without_an_attempt_left_is_discarded_with_its_reason(
    engine: PostgresEngine,
) -> None:
    (job_id,) = await inserted(engine, Job(worker="app.Mailer", max_attempts=1))
    execute(engine, "update oban_jobs set attempt = 1 where id = %s", job_id)
    staged = await engine.execute(engine.stage(["default"], 100))
    assert (staged.discarded_count, staged.available_queues) == (1, frozenset())
    stored = row(engine, job_id)
    assert stored["state"] == "discarded"
    assert [each["attempt"] for each in stored["errors"]] == [1]
