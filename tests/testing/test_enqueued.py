"""Looking at what is enqueued: filters, waiting, and messages that help."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from tests.testing.workers import Mailer, add, step

from oban import Job, Oban
from oban.errors import InstanceNotFound, InvalidJob
from oban.testing import all_enqueued, assert_enqueued, refute_enqueued, reset_oban

MAILER = "tests.testing.workers.Mailer"


#: Found by its name, "Oban", where a test names none.
pytestmark = pytest.mark.usefixtures("client")


async def listed(**filters: Any) -> list[int | None]:
    return [job.id for job in await all_enqueued(**filters)]


async def test_available_and_scheduled_jobs_are_listed_in_the_order_of_their_ids() -> None:
    later = await step.enqueue("later", schedule_in=60)
    now = await step.enqueue("now", priority=1)
    assert await listed() == [later.id, now.id]


async def test_what_is_not_enqueued_is_not_listed(client: Oban) -> None:
    states = ("executing", "retryable", "suspended", "completed", "cancelled", "discarded")
    for state in states:
        job = await step.enqueue(state)
        await set_state(client, job, state)
    assert await listed() == []
    for state in states:
        (job,) = await all_enqueued(state=state)
        assert job.args == {"name": state}


async def set_state(client: Oban, job: Job, state: str) -> None:
    async with client.engine.pools.connection() as connection:  # type: ignore[attr-defined]
        await connection.execute("update oban_jobs set state = %s where id = %s", (state, job.id))


@pytest.mark.parametrize(
    "filters",
    [
        {"worker": Mailer},
        {"worker": MAILER},
        {"worker": Mailer.options(priority=1)},
        {"queue": "mailers"},
        {"args": {"to": "a@b.c"}},
        {"args": {"body": {"lines": ["two"]}}},
        {"args": {"body": {"lines": ("one", "two")}}},
        {"args": {"7": None}},
        {"args": {7: None}},
        {"args": {}},
        {"meta": {"tenant": 1}},
        {"tags": ["vip"]},
        {"tags": ["URGENT ", "vip"]},
        {"priority": 3},
        {"state": "available"},
        {"worker": Mailer, "args": {"to": "a@b.c"}, "priority": 3, "tags": ["vip"]},
    ],
    ids=", ".join,
)
async def test_each_filter_lets_pass_what_fits(filters: Mapping[str, Any]) -> None:
    job = await Mailer.enqueue(
        {"to": "a@b.c", "body": {"lines": ["one", "two"], "size": 2}, "7": None},
        meta={"tenant": 1, "trace": "x"},
        tags=["vip", "urgent"],
        priority=3,
    )
    await add.enqueue(1, schedule_in=60)
    assert job.id in await listed(**filters)
    await assert_enqueued(**filters)
    with pytest.raises(AssertionError):
        await refute_enqueued(**filters)


@pytest.mark.parametrize(
    "filters",
    [
        {"worker": add},
        {"worker": "Mailer"},
        {"queue": "mailer"},
        {"args": {"to": "a@b"}},
        {"args": {"to": "a@b.c", "cc": None}},
        {"args": {"count": True}},
        {"args": {"body": {"lines": ["three"]}}},
        {"meta": {"tenant": 2}},
        {"tags": ["vip", "other"]},
        {"priority": 0},
        {"state": "scheduled"},
        {"worker": Mailer, "queue": "default"},
    ],
    ids=", ".join,
)
async def test_each_filter_holds_back_what_does_not_fit(filters: Mapping[str, Any]) -> None:
    await Mailer.enqueue(
        {"to": "a@b.c", "count": 1, "body": {"lines": ["one"]}},
        meta={"tenant": 1},
        tags=["vip"],
        priority=3,
    )
    assert await listed(**filters) == []
    await refute_enqueued(**filters)
    with pytest.raises(AssertionError):
        await assert_enqueued(**filters)


async def test_a_function_worker_is_a_filter() -> None:
    job = await add.enqueue(2)
    await Mailer.enqueue({"to": "a@b.c"})
    assert await listed(worker=add, args={"left": 2}) == [job.id]
    assert await listed(worker=add.options(priority=2)) == [job.id]


async def test_more_jobs_than_one_page_are_all_listed(client: Oban) -> None:
    jobs = await client.enqueue_many(step.new("x") for _ in range(2_001))
    assert await listed(worker=step) == [job.id for job in jobs]


async def test_the_instance_is_given_or_named(client: Oban) -> None:
    job = await step.enqueue("x")
    assert await listed(oban=client) == await listed(oban="Oban") == [job.id]
    with pytest.raises(InstanceNotFound, match="'Other'"):
        await all_enqueued(oban="Other")
    with pytest.raises(TypeError, match="the name of one"):
        await all_enqueued(oban=7)  # type: ignore[arg-type]


async def test_an_instance_that_was_never_started_will_do(oban_dsn: str) -> None:
    oban = Oban(pool=oban_dsn, name="Unstarted")
    try:
        await oban.enqueue(step.new("x"))
        await assert_enqueued(oban="Unstarted", worker=step)
    finally:
        await oban.stop()


@pytest.mark.parametrize(
    ("filters", "advice"),
    [
        ({"workers": Mailer}, "did you mean 'worker'"),
        ({"arg": {}}, "did you mean 'args'"),
        ({"unrelated": 1}, "the filters are worker, queue, args, meta, tags, priority, state"),
    ],
)
async def test_an_unknown_filter_names_the_nearest(filters: dict[str, Any], advice: str) -> None:
    for look in (all_enqueued, assert_enqueued, refute_enqueued):
        with pytest.raises(TypeError, match=advice):
            await look(**filters)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"state": "enqueued"}, "state is 'enqueued'; one of available"),
        ({"priority": 10}, "priority is 10; it is a whole number from 0 to 9"),
        ({"args": ["a"]}, "args is .*; it is a dict"),
        ({"args": {"at": datetime(2026, 1, 1, tzinfo=UTC)}}, r"args\['at'\] is a datetime"),
        ({"tags": "vip"}, "tags is 'vip'; it is a list of words"),
        ({"queue": ""}, "queue is ''"),
    ],
)
async def test_an_impossible_value_says_what_is_possible(
    filters: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidJob, match=message):
        await assert_enqueued(**filters)


@pytest.mark.parametrize("worker", [Job, lambda: None, 7, None])
async def test_what_is_no_worker_is_refused(worker: object) -> None:
    with pytest.raises(TypeError, match="a class with @worker, a function with @job, or the name"):
        await refute_enqueued(worker=worker)


async def test_assert_waits_for_a_job_that_comes() -> None:
    asserting = asyncio.create_task(assert_enqueued(worker=step, timeout=10))
    await asyncio.sleep(0)
    await step.enqueue("x")
    await asserting


async def test_assert_gives_up_after_the_timeout() -> None:
    with pytest.raises(AssertionError, match=r"no such job was enqueued within 0\.05 s"):
        await assert_enqueued(worker=step, timeout=0.05)


async def test_refute_fails_as_soon_as_a_job_comes() -> None:
    refuting = asyncio.create_task(refute_enqueued(worker=step, timeout=10))
    await asyncio.sleep(0)
    await step.enqueue("x")
    with pytest.raises(AssertionError, match="such a job is enqueued"):
        await refuting


async def test_the_message_shows_what_was_wanted_and_the_nearest_jobs(client: Oban) -> None:
    far = await step.enqueue("x")
    near = await Mailer.enqueue({"to": "z@b.c", "copy": True}, tags=["vip"])
    done = await Mailer.enqueue({"to": "a@b.c"})
    await set_state(client, done, "completed")
    with pytest.raises(AssertionError) as raised:
        await assert_enqueued(worker=Mailer, args={"to": "a@b.c"}, queue="mailers")
    assert (
        str(raised.value)
        == f"""no such job was enqueued:
    worker    {MAILER}
    args      {{'to': 'a@b.c'}}
    queue     mailers
    state     available or scheduled
The nearest of the 3 jobs:
    #{done.id} {MAILER} is completed in mailers, priority 0, args {{'to': 'a@b.c'}}: other state
    #{near.id} {MAILER} is available in mailers, priority 0, args {{'to': 'z@b.c', 'copy': True}}\
, tags ['vip']: other args
    #{far.id} tests.testing.workers.step is available in default, priority 0\
, args {{'name': 'x'}}: other worker, args, queue"""
    )


async def test_the_message_says_that_there_is_nothing() -> None:
    with pytest.raises(AssertionError, match=r"There are no jobs at all\.$"):
        await assert_enqueued(worker=step)


async def test_the_message_of_refute_shows_the_job() -> None:
    job = await step.enqueue("x", tags=["vip"])
    with pytest.raises(AssertionError) as raised:
        await refute_enqueued(tags=["vip"])
    assert (
        str(raised.value)
        == f"""such a job is enqueued:
    tags      ['vip']
    state     available or scheduled
Here it is:
    #{job.id} tests.testing.workers.step is available in default, priority 0\
, args {{'name': 'x'}}, tags ['vip']"""
    )


async def test_long_values_are_cut_and_few_jobs_listed(client: Oban) -> None:
    await client.enqueue_many(step.new("x" * 10_000) for _ in range(50))
    with pytest.raises(AssertionError) as raised:
        await assert_enqueued(worker=Mailer, args={"to": "y" * 10_000})
    assert len(str(raised.value)) < 3_000
    assert str(raised.value).count("#") == 5


async def test_reset_deletes_all_jobs_and_nothing_of_other_schemas(
    client: Oban, oban_dsn: str
) -> None:
    for state in ("available", "executing", "completed"):
        await set_state(client, await step.enqueue(state), state)
    async with await psycopg.AsyncConnection.connect(oban_dsn, autocommit=True) as connection:
        await connection.execute("insert into oban_owned_queues (queue) values ('gone'), ('kept')")
        await connection.execute(
            "insert into oban_owners (uuid, name, node, queue)"
            " values (gen_random_uuid(), 'Oban', 'here', 'kept')"
        )
        await reset_oban("Oban")
        cursor = await connection.execute(
            "select (select count(*) from oban_jobs), array(select queue from oban_owned_queues)"
        )
        assert await cursor.fetchone() == (0, ["kept"])
    await step.enqueue("x")
    await reset_oban(client)
    assert await listed() == []
