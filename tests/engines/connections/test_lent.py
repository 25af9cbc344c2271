"""A call on a lent connection lives and dies with its owner's transaction, on every kind."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy.exc
from tests.engines.connections.heard import Heard
from tests.engines.connections.kinds import KINDS, Lent

from oban import Job, Oban
from oban.engines.postgres import insert_rows as job_verbs
from oban.engines.reads import JobFilter

MANY = ("alpha", "alpha", "beta", 'ga"mma')
RICH = {
    "text": "Zoë, 日本語 🎉 \u2028 'quoted' \"double\" \\ back\\u0041slash",
    "like parameters": "%s %(name)s :name $1 ? ::text {prefix} % \\:",
    "numbers": [2**70, -(2**63), 2**31, 0.1, 1.5e-7, 1e15, 0],
    "nothing": [None, True, False, "", [], {}],
}


@pytest.fixture(params=KINDS)
async def lent(request: pytest.FixtureRequest, oban_dsn: str) -> AsyncIterator[Lent]:
    async with KINDS[request.param](oban_dsn) as lent:
        yield lent


def build(queue: str = "default", **fields: Any) -> Job:
    return Job(worker="app.Mailer", queue=queue, **fields)


async def stored(oban: Oban) -> list[Job]:
    """All jobs, as everybody else sees them."""
    return (await oban.list_jobs(JobFilter(limit=1_000)))[::-1]


async def state_of(oban: Oban, job: Job) -> str | None:
    found = await oban.get_job(job)
    return None if found is None else str(found.state)


async def test_jobs_and_notifications_appear_with_the_commit(
    lent: Lent, client: Oban, heard: Heard
) -> None:
    one = await lent.call(client, "enqueue", build("single"))
    many = await lent.call(client, "enqueue_many", [build(queue) for queue in MANY])
    assert await stored(client) == []
    assert await heard.all() == []
    await lent.commit()
    assert await stored(client) == [one, *many]
    assert await heard.queues() == ["alpha", "beta", 'ga"mma', "single"]


async def test_jobs_and_notifications_go_with_the_rollback(
    lent: Lent, client: Oban, heard: Heard
) -> None:
    await lent.call(client, "enqueue", build("single"))
    await lent.call(client, "enqueue_many", [build(queue) for queue in MANY])
    await lent.call(client, "enqueue", build(scheduled_at=datetime.now(UTC) + timedelta(0.5)))
    await lent.rollback()
    assert await stored(client) == []
    assert await heard.all() == []


async def test_a_savepoint_takes_back_its_part_alone(
    lent: Lent, client: Oban, heard: Heard
) -> None:
    before = await lent.call(client, "enqueue", build("before"))
    with pytest.raises(ZeroDivisionError):
        async with lent.savepoint():
            await lent.call(client, "enqueue_many", [build("inside")])
            await lent.call(client, "cancel_job", before)
            raise ZeroDivisionError
    async with lent.savepoint():
        kept = await lent.call(client, "enqueue", build("kept"))
    await lent.commit()
    assert await stored(client) == [before, kept]
    assert await heard.queues() == ["before", "kept"]


async def test_the_transaction_is_its_owners_to_end(lent: Lent, client: Oban) -> None:
    current = "select cast(pg_current_xact_id() as text), pg_backend_pid()"
    begun = await lent.execute(current)
    job = await lent.call(client, "enqueue", build())
    await lent.call(client, "update_job", job, {"priority": 3})
    await lent.call(client, "enqueue_many", [build(), build()])
    await lent.call(client, "delete_job", job)
    assert await lent.execute(current) == begun
    await lent.commit()
    assert (await lent.execute(current))[0][1] == begun[0][1]
    assert len(await stored(client)) == 2


async def test_values_come_back_as_they_were_given(lent: Lent, client: Oban) -> None:
    soon = datetime.now(UTC).replace(microsecond=123_457) + timedelta(days=3)
    given = build(
        args=RICH,
        meta=RICH,
        tags=["vip", "ünï", "a,b", "{x}", '"', "50%"],
        priority=9,
        max_attempts=32_767,
        scheduled_at=soon,
    )
    job = await lent.call(client, "enqueue", given)
    await lent.commit()
    (found,) = await stored(client)
    for each in (job, found, await lent.call(client, "get_job", job)):
        assert (each.args, each.meta, each.tags) == (RICH, RICH, given.tags)
        assert (each.priority, each.max_attempts, each.state) == (9, 32_767, "scheduled")
        assert each.scheduled_at == soon
    assert given.id is None


async def test_each_verb_is_part_of_the_transaction(lent: Lent, client: Oban) -> None:
    names = ("cancelled", "retried", "deleted", "updated")
    jobs = await client.enqueue_many(build(args={"name": name}) for name in names)
    cancelled, retried, deleted, updated = jobs
    await client.cancel_job(retried)

    async def change() -> Job:
        assert await lent.call(client, "cancel_job", cancelled) is True
        assert await lent.call(client, "retry_many_jobs", [retried, 10**12]) == 1
        assert await lent.call(client, "delete_job", deleted) is True
        assert await lent.call(client, "get_job", deleted) is None
        changed = await lent.call(
            client, "update_job", updated, lambda job: {"args": {**job.args, "n": 1}}
        )
        assert changed.args == {"name": "updated", "n": 1}
        assert isinstance(changed, Job)
        return changed

    await change()
    await lent.rollback()
    assert [await state_of(client, job) for job in jobs] == [
        "available", "cancelled", "available", "available",
    ]  # fmt: skip
    assert await client.get_job(updated) == updated
    changed = await change()
    await lent.commit()
    assert [await state_of(client, job) for job in jobs] == [
        "cancelled", "available", None, "available",
    ]  # fmt: skip
    assert await client.get_job(updated) == changed


async def test_verbs_on_no_jobs_do_nothing(lent: Lent, client: Oban) -> None:
    assert await lent.call(client, "enqueue_many", []) == []
    assert await lent.call(client, "cancel_many_jobs", []) == 0
    assert await lent.call(client, "update_many_jobs", [], {"priority": 1}) == []
    assert await lent.call(client, "get_job", 10**15) is None
    assert await lent.call(client, "update_job", 10**15, {"priority": 1}) is None
    assert await lent.call(client, "delete_job", 10**15) is False


async def test_ids_may_be_large(lent: Lent, client: Oban) -> None:
    await lent.execute("select setval(pg_get_serial_sequence('oban_jobs', 'id'), 3000000000000)")
    job = await lent.call(client, "enqueue", build())
    assert job.id == 3_000_000_000_001
    assert (await lent.call(client, "update_job", job, {"priority": 1})).id == job.id
    assert await lent.call(client, "cancel_many_jobs", [job.id, 7]) == 1
    assert (await lent.call(client, "get_job", job.id)).state == "cancelled"
    await lent.execute("select setval(pg_get_serial_sequence('oban_jobs', 'id'), 1, false)")


async def test_the_drivers_own_error_is_raised_and_the_rest_goes_on(
    lent: Lent, client: Oban, heard: Heard
) -> None:
    bad = build()
    bad.queue = ""  # past the validation, to the constraint of the table
    kept = await lent.call(client, "enqueue", build("kept"))
    with pytest.raises((psycopg.errors.CheckViolation, sqlalchemy.exc.IntegrityError)):
        async with lent.savepoint():
            await lent.call(client, "enqueue_many", [build("lost"), bad])
    await lent.commit()
    assert await stored(client) == [kept]
    assert await heard.queues() == ["kept"]


async def test_jobs_in_several_statements_share_the_transaction(
    lent: Lent, client: Oban, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_verbs, "MAX_INSERT_JOBS", 2)
    wanted = [build(args={"n": n}) for n in range(5)]
    await lent.call(client, "enqueue_many", wanted)
    assert await stored(client) == []
    await lent.rollback()
    inserted = await lent.call(client, "enqueue_many", wanted)
    await lent.commit()
    assert await stored(client) == inserted
    assert [job.args["n"] for job in inserted] == [0, 1, 2, 3, 4]
