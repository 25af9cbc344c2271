"""What a process opens once for its jobs, and the job that runs as a context variable."""

import asyncio
import copy
import dataclasses
import pickle
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.running.in_processes import whoami
from tests.running.support import Running, eventually, named, reached

from oban import Job, Oban, Record, Worker, current_job, job, worker
from oban.errors import InvalidOption, NotStarted
from oban.running import places
from oban.testing import drain_queue, process_job

NOTES: list[str] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    NOTES.clear()


@asynccontextmanager
async def http() -> AsyncIterator[str]:
    NOTES.append("open http")
    try:
        yield "a client"
    finally:
        NOTES.append("close http")


@contextmanager
def model() -> Iterator[str]:
    NOTES.append("open model")
    yield "a model"
    NOTES.append("close model")


@contextmanager
def broken() -> Iterator[str]:
    yield str(Path("/no/such/model").read_text())


@worker
class Async(Worker):
    async def process(self, job: Job) -> Record:
        return Record([job.resources["http"], job.resources["model"]])


@worker
class Threaded(Worker):
    def process(self, job: Job) -> Record:
        return Record([job.resources["http"], job.resources["model"]])


@job
def deep() -> Record:
    running = current_job()
    assert running is not None
    return Record(running.resources["model"])


@job
async def spawning() -> Record:
    async def seen() -> int | None:
        running = current_job()
        return None if running is None else running.id

    return Record([await seen(), await asyncio.create_task(seen())])


@job
def threaded() -> Record:
    running = current_job()
    return Record(None if running is None else running.id)


async def test_resources_are_opened_once_and_closed_in_reverse_order(running: Running) -> None:
    async with running(resources={"http": http, "model": model}) as oban:
        assert NOTES == ["open http", "open model"]
        jobs = [await oban.enqueue(each.new()) for each in (Async, Threaded, Async, deep)]
        done = [await reached(oban, each, "completed") for each in jobs]
        assert NOTES == ["open http", "open model"]
    assert NOTES == ["open http", "open model", "close model", "close http"]
    both = ["a client", "a model"]
    assert [each.recorded() for each in done] == [both, both, both, "a model"]


@worker
class Copying(Worker):
    async def process(self, job: Job) -> None:
        assert copy.deepcopy(job).resources is job.resources
        assert dataclasses.asdict(job)["resources"] is job.resources
        assert pickle.loads(pickle.dumps(job)).resources == {}
        assert (list(job.resources), "http" in job.resources) == (["http"], True)


async def test_a_job_can_be_copied_without_what_it_was_lent(running: Running) -> None:
    async with running(resources={"http": http}) as oban:
        await reached(oban, await oban.enqueue(Copying.new()), "completed")


async def test_a_resource_that_is_not_there_is_named(running: Running) -> None:
    async with running(resources={"http": http}) as oban:
        job = await reached(oban, await oban.enqueue(Async.new()), "retryable")
    assert "no resource 'model': there are: http" in job.errors[0]["error"]


async def test_a_start_that_fails_closes_what_it_opened(oban_dsn: str) -> None:
    oban = Oban(pool=oban_dsn, queues={"default": 1}, resources={"http": http, "model": broken})
    with pytest.raises(FileNotFoundError):
        await oban.start()
    assert NOTES == ["open http", "close http"]
    assert oban.producers == {}


@asynccontextmanager
async def slow_to_open() -> AsyncIterator[None]:
    NOTES.append("opens")
    try:
        await asyncio.sleep(60)
    finally:
        NOTES.append("gave up")
    yield


async def opening(oban: Oban) -> "asyncio.Task[Oban]":
    start = asyncio.create_task(oban.start())

    async def begun() -> bool:
        return "opens" in NOTES

    await eventually(begun)
    return start


async def test_a_start_is_cancelled_while_a_resource_opens(oban_dsn: str) -> None:
    resources = {"http": http, "slow": slow_to_open}
    start = await opening(Oban(pool=oban_dsn, queues={"default": 1}, resources=resources))
    start.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await start
    assert NOTES == ["open http", "opens", "gave up", "close http"]


async def test_a_stop_while_a_resource_opens_ends_the_start(oban_dsn: str) -> None:
    oban = Oban(pool=oban_dsn, queues={"default": 1}, resources={"slow": slow_to_open})
    start = await opening(oban)
    async with asyncio.timeout(5):
        await oban.stop()
        with pytest.raises(NotStarted, match="was stopped before it was up"):
            await start
    assert NOTES == ["opens", "gave up"]


async def test_a_resource_that_does_not_close_is_told_and_holds_nothing_up(
    oban_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def slow_to_close() -> AsyncIterator[None]:
        yield
        await asyncio.sleep(60)

    monkeypatch.setattr(places, "CLOSING", 0.1)
    options: Any = {"resources": {"slow": slow_to_close}, "shutdown_grace_period": 0.2}
    oban = await Oban(pool=oban_dsn, queues={"default": 1}, **options).start()
    async with asyncio.timeout(5):
        with pytest.raises(TimeoutError, match=r"resources \(slow\) were not closed after 0.2 s"):
            await oban.stop()
    assert oban.producers == {}


async def test_what_a_resource_raises_while_it_closes_is_raised_by_the_stop(
    oban_dsn: str,
) -> None:
    @contextmanager
    def failing() -> Iterator[None]:
        yield
        raise ValueError("while it closed")

    oban = Oban(pool=oban_dsn, queues={"default": 1}, resources={"http": http, "failing": failing})
    await oban.start()
    with pytest.raises(ValueError, match="while it closed"):
        await oban.stop()
    assert NOTES == ["open http", "close http"]


async def test_a_resource_that_is_lost_stops_the_node_in_order(
    oban_dsn: str, events: list[Any]
) -> None:
    @asynccontextmanager
    async def limited() -> AsyncIterator[None]:
        async with asyncio.timeout(0.3):  # cancels the task that has opened it
            yield

    oban = Oban(pool=oban_dsn, queues={"default": 1}, resources={"http": http, "it": limited})
    await oban.start()
    supervisor = oban.supervisor
    assert supervisor is not None
    async with asyncio.timeout(5):
        with pytest.raises(TimeoutError):
            await supervisor
        with pytest.raises(TimeoutError):
            await oban.stop()
    (lost,) = named(events, "oban.resources.exception")
    assert lost["error_type"] == "TimeoutError"
    assert NOTES == ["open http", "close http"]


@pytest.mark.parametrize(
    "given", [[], {"http": 5}, {5: http}, "http", {"http": "http"}, {"http": "a:b:c"}]
)
def test_what_cannot_be_opened_is_refused(given: Any) -> None:
    with pytest.raises(InvalidOption, match="it is a dict of names and of functions"):
        Oban(pool="dbname=nowhere", resources=given)


async def test_a_factory_that_returns_no_context_manager_is_refused(oban_dsn: str) -> None:
    wrong: Any = {"http": lambda: 5}
    with pytest.raises(InvalidOption, match="returned 5; it returns a context manager"):
        await Oban(pool=oban_dsn, resources=wrong).start()


async def test_a_factory_may_be_given_by_its_name(running: Running) -> None:
    named = {"http": "tests.running.test_resources:http"}
    async with running(resources={**named, "model": model}) as oban:
        job = await reached(oban, await oban.enqueue(Async.new()), "completed")
    assert job.recorded() == ["a client", "a model"]


@pytest.mark.parametrize("name", ["tests.no_such_module:http", "tests.running.support:no_such"])
async def test_a_name_that_leads_nowhere_is_told_at_the_start(oban_dsn: str, name: str) -> None:
    with pytest.raises(InvalidOption, match=rf"resources\['http'\] is '{name}': "):
        await Oban(pool=oban_dsn, resources={"http": name}).start()


async def test_tests_give_resources_by_the_job_or_by_an_oban_that_runs(oban_dsn: str) -> None:
    given = Async.new()
    given.resources = {"http": "a double", "model": "another"}
    assert (await process_job(given)).value == ["a double", "another"]
    async with Oban(pool=oban_dsn, resources={"http": http, "model": model}) as oban:
        await oban.enqueue(Async.new())
        assert (await drain_queue(oban=oban))["completed"] == 1


# The job that runs


async def test_each_job_sees_itself_wherever_it_runs(running: Running) -> None:
    async with running(queues={"default": 5, "children": 1}) as oban:
        assert current_job() is None
        on_loop, on_thread, in_child = [
            await oban.enqueue(each) for each in (spawning.new(), threaded.new(), whoami.new("a"))
        ]
        done = [
            await reached(oban, each, "completed", deadline=30)
            for each in (on_loop, on_thread, in_child)
        ]
    assert done[0].recorded() == [on_loop.id, on_loop.id]
    assert done[1].recorded() == on_thread.id
    assert done[2].recorded()[2] == in_child.id
    assert current_job() is None


async def test_outside_of_jobs_there_is_none_also_after_one_ran_here(client: Oban) -> None:
    await client.enqueue(threaded.new())
    await drain_queue(oban=client)
    assert current_job() is None
