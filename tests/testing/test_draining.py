"""`drain_queue`: a queue run from the test, on the real engine."""

import asyncio
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from tests.testing.workers import (
    RAN,
    Broken,
    Changing,
    Failing,
    Mailer,
    add,
    end,
    fan_out,
    fan_out_in_a_thread,
    step,
    wait_forever,
)  # fmt: skip

from oban import Job, Oban, Worker, instances, worker
from oban.errors import UnknownWorker
from oban.testing import drain_queue

NOTHING = {"cancelled": 0, "completed": 0, "discarded": 0, "retryable": 0, "scheduled": 0}


#: Found by its name, "Oban", where a test names none.
pytestmark = pytest.mark.usefixtures("client")


@worker()
class Meddling(Worker):
    """Does something to a job, itself or another, while it runs."""

    async def process(self, job: Job) -> None:
        oban: Any = instances.get()
        RAN.append("meddling")
        await getattr(oban, job.args["verb"])(job.args.get("id", job.id))


async def stored(client: Oban, job: Job) -> Job:
    found = await client.get_job(job)
    assert found is not None
    return found


async def left_behind(dsn: str) -> dict[str, Any]:
    """Producers on record, and jobs that still name one as running them."""
    query = """select (select count(*) from oban_owners) as owners,
      (select count(*) from oban_jobs where state = 'executing') as executing"""
    async with await psycopg.AsyncConnection.connect(dsn, row_factory=dict_row) as connection:
        row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return row


async def test_an_empty_queue_is_all_zeros() -> None:
    assert await drain_queue() == NOTHING


async def test_jobs_run_and_are_recorded_as_a_node_records_them(
    client: Oban, oban_dsn: str
) -> None:
    sent = await Mailer.enqueue({"to": "a@b.c"})
    other = await step.enqueue("other")
    assert await drain_queue("mailers") == {**NOTHING, "completed": 1}
    job = await stored(client, sent)
    assert (job.state, job.attempt, job.errors) == ("completed", 1, [])
    assert job.completed_at is not None
    assert job.attempted_at is not None
    assert job.completed_at >= job.attempted_at
    assert job.attempted_by[0] == client.node
    assert (await stored(client, other)).state == "available"
    assert RAN == [{"to": "a@b.c"}]
    assert await left_behind(oban_dsn) == {"owners": 0, "executing": 0}


async def test_every_outcome_is_counted_and_recorded(client: Oban) -> None:
    jobs = {how: await end.enqueue(how) for how in ("cancel", "discard", "record", "snooze")}
    jobs["fail"] = await Failing.enqueue()
    jobs["last"] = await Failing.enqueue(max_attempts=1)
    assert await drain_queue(with_safety=True) == {
        "cancelled": 1, "completed": 1, "discarded": 2, "retryable": 1, "scheduled": 1,
    }  # fmt: skip
    ended = {how: await stored(client, job) for how, job in jobs.items()}
    assert {how: str(job.state) for how, job in ended.items()} == {
        "cancel": "cancelled", "discard": "discarded", "record": "completed",
        "snooze": "scheduled", "fail": "retryable", "last": "discarded",
    }  # fmt: skip
    assert ended["record"].recorded() == {"sent": 3}
    assert (ended["snooze"].attempt, ended["snooze"].meta["snoozed"]) == (0, 1)
    assert "Broken: no good" in ended["fail"].errors[0]["error"]


async def test_without_safety_the_exception_is_raised_after_it_was_recorded(
    client: Oban, oban_dsn: str
) -> None:
    failing = await Failing.enqueue()
    after = await step.enqueue("after")
    with pytest.raises(Broken, match="no good") as raised:
        await drain_queue()
    assert raised.traceback[-1].name == "process"
    job = await stored(client, failing)
    assert (job.state, job.attempt, len(job.errors)) == ("retryable", 1, 1)
    assert (await stored(client, after)).state == "available"
    assert await left_behind(oban_dsn) == {"owners": 0, "executing": 0}


async def test_without_safety_an_outcome_that_is_no_exception_is_only_counted() -> None:
    await end.enqueue("discard")
    await end.enqueue("cancel")
    assert await drain_queue() == {**NOTHING, "cancelled": 1, "discarded": 1}


async def test_an_unknown_worker_is_raised_or_put_back(client: Oban) -> None:
    job = await client.enqueue(Job(worker="nowhere.Worker"))
    with pytest.raises(UnknownWorker):
        await drain_queue()
    assert await drain_queue(with_safety=True) == {**NOTHING, "scheduled": 1}
    assert (await stored(client, job)).meta == {"unknown_worker": 2}


async def test_jobs_run_by_priority_time_and_id() -> None:
    for name, options in {
        "b": {"schedule_in": 60}, "c": {"schedule_in": 120}, "a": {}, "z": {"priority": 9},
        "d": {"schedule_in": 3600}, "first": {"priority": 0, "schedule_in": -5},
    }.items():  # fmt: skip
        await step.options(**{"priority": 1, **options}).enqueue(name)  # type: ignore[arg-type]
    await drain_queue()
    assert RAN == ["first", "a", "b", "c", "d", "z"]


async def test_scheduled_and_retryable_jobs_keep_their_time(client: Oban) -> None:
    job = await step.enqueue("later", schedule_in=3600)
    assert (await drain_queue())["completed"] == 1
    assert (await stored(client, job)).scheduled_at == job.scheduled_at


async def test_scheduled_jobs_may_be_left_alone(client: Oban) -> None:
    job = await step.enqueue("later", schedule_in=3600)
    await step.enqueue("now")
    assert await drain_queue(with_scheduled=False) == {**NOTHING, "completed": 1}
    assert RAN == ["now"]
    assert (await stored(client, job)).state == "scheduled"


async def test_scheduled_jobs_of_other_queues_are_left_alone(client: Oban) -> None:
    job = await Mailer.enqueue({"to": "a@b.c"}, schedule_in=3600)
    assert await drain_queue() == NOTHING
    assert (await stored(client, job)).state == "scheduled"


async def test_each_drain_is_one_attempt(client: Oban) -> None:
    job = await Failing.enqueue()
    assert await drain_queue(with_safety=True) == {**NOTHING, "retryable": 1}
    assert await drain_queue(with_safety=True) == {**NOTHING, "discarded": 1}
    assert await drain_queue(with_safety=True) == NOTHING
    assert len((await stored(client, job)).errors) == 2


@pytest.mark.parametrize("parent", [fan_out, fan_out_in_a_thread])
async def test_jobs_enqueued_meanwhile_run_as_well(parent: Any) -> None:
    await parent.enqueue(["a", "b"])
    assert await drain_queue() == {**NOTHING, "completed": 3}
    assert RAN == ["fan out", "a", "b"]


async def test_without_recursion_jobs_enqueued_meanwhile_wait(oban_dsn: str) -> None:
    await fan_out.enqueue(["a", "b"])
    await step.enqueue("before", schedule_in=60)
    assert await drain_queue(with_recursion=False) == {**NOTHING, "completed": 2}
    assert RAN == ["fan out", "before"]
    assert await drain_queue(with_recursion=False) == {**NOTHING, "completed": 2}
    assert RAN[2:] == ["a", "b"]


async def test_without_recursion_what_was_not_run_goes_back(client: Oban, oban_dsn: str) -> None:
    await Failing.enqueue()
    waiting = await step.enqueue("after")
    with pytest.raises(Broken):
        await drain_queue(with_recursion=False)
    job = await stored(client, waiting)
    assert (job.state, job.attempt) == ("available", 0)
    assert await left_behind(oban_dsn) == {"owners": 0, "executing": 0}


@pytest.mark.parametrize("with_recursion", [True, False])
async def test_a_drain_that_is_cancelled_gives_its_job_back(
    client: Oban, oban_dsn: str, with_recursion: bool
) -> None:
    job = await wait_forever.enqueue()
    draining = asyncio.create_task(drain_queue(with_recursion=with_recursion))
    async with asyncio.timeout(10):
        while not RAN:
            await asyncio.sleep(0.005)
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    found = await stored(client, job)
    assert (found.state, found.attempt, found.errors) == ("available", 0, [])
    assert await left_behind(oban_dsn) == {"owners": 0, "executing": 0}


async def test_a_job_that_was_cancelled_while_it_ran_counts_as_cancelled(client: Oban) -> None:
    job = await Meddling.enqueue({"verb": "cancel_job"})
    assert await drain_queue() == {**NOTHING, "cancelled": 1}
    assert (await stored(client, job)).state == "cancelled"


async def test_a_job_that_another_cancels_does_not_run(client: Oban) -> None:
    spared = await step.enqueue("spared", priority=9)
    await Meddling.enqueue({"verb": "cancel_job", "id": spared.id})
    assert await drain_queue() == {**NOTHING, "completed": 1}
    assert RAN == ["meddling"]


async def test_workers_on_threads_run_on_threads() -> None:
    await add.enqueue(1)
    await drain_queue()
    assert RAN == ["oban Oban"]


async def test_what_a_worker_changes_in_its_job_is_not_stored(client: Oban) -> None:
    job = await Changing.enqueue({"list": []})
    await drain_queue()
    found = await stored(client, job)
    assert (found.args, found.meta) == ({"list": []}, {})


async def test_a_paused_or_stopped_instance_drains_too(oban_dsn: str) -> None:
    oban = Oban(pool=oban_dsn, name="Unstarted")
    try:
        await oban.enqueue(step.new("x"))
        assert await drain_queue(oban="Unstarted") == {**NOTHING, "completed": 1}
        await oban.enqueue(step.new("y"))
        assert await drain_queue("default", oban) == {**NOTHING, "completed": 1}
    finally:
        await oban.stop()
