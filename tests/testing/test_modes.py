"""`mode`: where a job goes that is enqueued in a test."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
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
)  # fmt: skip

from oban import Job, Oban, instances
from oban.errors import InvalidOption, SyncInsideLoop, UnknownWorker
from oban.testing import all_enqueued, mode


@pytest.fixture
def nowhere() -> Iterator[Oban]:
    """An Oban whose database does not exist: whoever touches it fails."""
    oban = Oban(pool="host=/nowhere connect_timeout=1")
    yield oban
    instances.unregister(oban)


async def test_inline_runs_the_job_at_once_and_without_a_database(nowhere: Oban) -> None:
    with mode("inline"):
        job = await Mailer.enqueue({"to": "a@b.c"}, priority=2)
    assert RAN == [{"to": "a@b.c"}]
    assert (job.state, job.attempt, job.priority, job.errors) == ("completed", 1, 2, [])
    assert isinstance(job.id, int)
    moments = [job.inserted_at, job.attempted_at, job.completed_at]
    assert moments == sorted(filter(None, moments))
    assert job.scheduled_at is not None


async def test_inline_jobs_have_ids_of_their_own(nowhere: Oban) -> None:
    with mode("inline"):
        first, second = await step.enqueue("a"), await step.enqueue("b")
    assert first.id != second.id


async def test_inline_runs_a_scheduled_job_at_once(nowhere: Oban) -> None:
    with mode("inline"):
        job = await step.enqueue("later", schedule_in=3600)
    assert (job.state, RAN) == ("completed", ["later"])


@pytest.mark.parametrize(
    ("how", "state"),
    [
        ("cancel", "cancelled"),
        ("discard", "discarded"),
        ("record", "completed"),
        ("snooze", "scheduled"),
        ("text", "completed"),
    ],
)
async def test_inline_returns_the_job_as_it_would_be(nowhere: Oban, how: str, state: str) -> None:
    with mode("inline"):
        job = await end.enqueue(how)
    assert job.state == state
    assert job.attempt == (0 if how == "snooze" else 1)
    assert getattr(job, f"{state}_at") is not None
    if how == "record":
        assert job.recorded() == {"sent": 3}
    if how == "snooze":
        assert job.meta == {"because": "busy", "snoozed": 1}
        assert job.scheduled_at is not None
        assert job.attempted_at is not None
        assert 59 < (job.scheduled_at - job.attempted_at).total_seconds() < 61
    if how in ("cancel", "discard"):
        (entry,) = job.errors
        assert entry["error"] == {"cancel": "not wanted", "discard": "hopeless"}[how]


async def test_inline_raises_what_the_job_raises(nowhere: Oban) -> None:
    with mode("inline"), pytest.raises(Broken, match="no good"):
        await Failing.enqueue()


async def test_inline_raises_for_an_unknown_worker(nowhere: Oban) -> None:
    with mode("inline"), pytest.raises(UnknownWorker):
        await nowhere.enqueue(Job(worker="nowhere.Worker"))


async def test_inline_announces_jobs_as_a_node_does(
    nowhere: Oban, events: list[tuple[str, dict[str, object]]]
) -> None:
    with mode("inline"):
        await step.enqueue("a")
        with pytest.raises(Broken):
            await Failing.enqueue()
    told = [each for each in events if each[0].startswith("oban.job.")]
    assert [(name, metadata.get("state")) for name, metadata in told] == [
        ("oban.job.start", None),
        ("oban.job.stop", "completed"),
        ("oban.job.start", None),
        ("oban.job.exception", "retryable"),
    ]


async def test_what_an_inline_worker_changes_in_its_job_is_not_stored(nowhere: Oban) -> None:
    with mode("inline"):
        job = await Changing.enqueue({"list": []}, meta={"kept": 1})
    assert (job.args, job.meta) == ({"list": []}, {"kept": 1})


async def test_many_inline_jobs_run_in_order(nowhere: Oban) -> None:
    with mode("inline"):
        jobs = await step.enqueue_many([{"name": "a"}, {"name": "b"}])
        assert await nowhere.enqueue_stream(step.new(name) for name in "cd") == 2
    assert [job.args["name"] for job in jobs] == ["a", "b"]
    assert RAN == ["a", "b", "c", "d"]


async def test_jobs_that_inline_jobs_enqueue_run_inline(nowhere: Oban) -> None:
    with mode("inline"):
        await fan_out.enqueue(["a", "b"])
        await fan_out_in_a_thread.enqueue(["c"])
    assert RAN == ["fan out", "a", "b", "fan out", "c"]


def test_inline_works_in_sync_code(nowhere: Oban) -> None:
    with mode("inline"):
        assert step.enqueue_sync("a").state == "completed"
        assert [job.state for job in step.enqueue_many_sync([{"name": "b"}])] == ["completed"]
        assert add.enqueue_sync(1).state == "completed"
        with pytest.raises(Broken):
            Failing.enqueue_sync()
    assert RAN[:2] == ["a", "b"]


async def test_an_inline_sync_call_inside_a_loop_says_so(nowhere: Oban) -> None:
    with mode("inline"), pytest.raises(SyncInsideLoop, match="await the call"):
        step.enqueue_sync("a")
    with mode("inline"), pytest.raises(SyncInsideLoop):
        step.enqueue_many_sync([{"name": "a"}])
    assert RAN == []


async def test_tasks_started_inside_are_inline_and_others_are_not(client: Oban) -> None:
    outside = asyncio.Event()

    async def enqueue_outside() -> Job:
        await outside.wait()
        return await step.enqueue("outside")

    elsewhere = asyncio.create_task(enqueue_outside())
    with mode("inline"):
        inside = await asyncio.create_task(step.enqueue("inside"))
        outside.set()
        assert (await elsewhere).state == "available"
    assert inside.state == "completed"
    assert RAN == ["inside"]


async def test_the_mode_ends_with_the_block_even_when_it_raises(client: Oban) -> None:
    with pytest.raises(Broken), mode("inline"):
        await Failing.enqueue()
    assert (await step.enqueue("a")).state == "available"


async def test_manual_leaves_jobs_in_the_table(client: Oban) -> None:
    with mode("inline"), mode("manual"):
        job = await step.enqueue("a")
    assert (job.state, RAN) == ("available", [])
    assert [each.id for each in await all_enqueued(worker=step)] == [job.id]


def test_a_thread_of_its_own_has_no_mode() -> None:
    seen: list[str | None] = []
    with mode("inline"):
        thread = threading.Thread(target=lambda: seen.append(instances.testing_mode()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_another_mode_is_refused() -> None:
    with pytest.raises(InvalidOption, match="'inline' or 'manual'"), mode("fast"):  # type: ignore[arg-type]
        pass
