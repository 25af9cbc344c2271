"""`process_job`: a worker as a unit, without a database, an instance or a loop of queues."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.testing.workers import RAN, Broken, Changing, Failing, Mailer, add, end

from oban import Job, Record, Snooze, Worker, worker
from oban.errors import InvalidJob, UnknownWorker
from oban.testing import process_job


@worker()
class Echo(Worker):
    async def process(self, job: Job) -> Job:
        return job


async def test_it_returns_what_the_worker_returns() -> None:
    assert await process_job(Mailer.new({"to": "a@b.c"})) == "sent to a@b.c"


async def test_outcomes_come_back_as_they_are() -> None:
    assert await process_job(end.new("snooze")) == Snooze(60, meta={"because": "busy"})
    assert await process_job(end.new("record")) == Record({"sent": 3})


async def test_it_raises_what_the_worker_raises() -> None:
    with pytest.raises(Broken, match="no good") as raised:
        await process_job(Failing.new())
    assert raised.traceback[-1].path == Path(__file__).with_name("workers.py")


async def test_a_function_runs_on_a_thread_and_is_given_its_arguments() -> None:
    assert await process_job(add.new(2, right=3)) == 5
    assert RAN == ["oban test"]


async def test_what_a_function_raises_on_its_thread_is_raised_here() -> None:
    with pytest.raises(TypeError, match="can only concatenate"):
        await process_job(add.new("two", right=3))  # type: ignore[call-overload]


async def test_args_and_meta_pass_through_json() -> None:
    given: dict[Any, Any] = {"pair": (1, 2), 3: {"deep": (True,)}}
    seen = await process_job(Echo.new(given, meta={"pair": ("a", "b")}))
    assert seen.args == {"pair": [1, 2], "3": {"deep": [True]}}
    assert seen.meta == {"pair": ["a", "b"]}


async def test_the_job_is_as_after_a_claim() -> None:
    built = Echo.new({"to": "a@b.c"}, priority=3, tags=["vip"])
    seen = await process_job(built)
    assert isinstance(seen.id, int)
    assert (seen.state, seen.attempt, seen.priority, seen.tags) == ("executing", 1, 3, ["vip"])
    assert seen.attempted_at is not None
    assert datetime.now(UTC) >= seen.attempted_at >= seen.inserted_at
    assert not seen.cancelled()


async def test_the_job_that_was_given_stays_as_it_was() -> None:
    built = Changing.new({"list": []}, meta={"kept": 1})
    await process_job(built)
    assert (built.args, built.meta, built.attempt, built.id) == ({"list": []}, {"kept": 1}, 0, None)
    assert built.state == "available"


async def test_a_later_attempt_can_be_tried() -> None:
    seen = await process_job(Job(worker=f"{__name__}.Echo", attempt=4, max_attempts=5))
    assert seen.attempt == 5


async def test_what_json_cannot_hold_is_refused_though_it_was_put_there_later() -> None:
    built = Echo.new({"fine": 1})
    built.args["when"] = datetime.now(UTC)
    with pytest.raises(InvalidJob, match=r"args\['when'\] is a datetime"):
        await process_job(built)


async def test_an_unknown_worker_is_raised() -> None:
    with pytest.raises(UnknownWorker, match="nowhere"):
        await process_job(Job(worker="nowhere.Worker"))
