"""Limits over all nodes, held by nodes that run: never passed, and never left unused for long."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any, ClassVar

import psycopg
import pytest
from tests.roads import direct
from tests.running.support import eventually

from oban import Job, Oban, RateLimited, Worker, worker
from oban.engines.reads import JobFilter
from oban.errors import InvalidJob, InvalidOption


@worker()
class Noted(Worker):
    running: ClassVar[int] = 0
    most: ClassVar[int] = 0
    started: ClassVar[list[float]] = []
    gate: ClassVar[asyncio.Event]

    async def process(self, job: Job) -> None:
        Noted.started.append(time.monotonic())
        Noted.running += 1
        Noted.most = max(Noted.most, Noted.running)
        await asyncio.sleep(job.args.get("seconds", 0))
        if job.args.get("gated"):
            await Noted.gate.wait()
        Noted.running -= 1


@pytest.fixture(autouse=True)
def nothing_noted() -> None:
    Noted.running = Noted.most = 0
    Noted.started.clear()


async def run(dsn: str, count: int, nodes: int, queue: dict[str, Any], **args: Any) -> None:
    """Enqueue jobs and run them on so many nodes, to the end."""
    async with AsyncExitStack() as stack:
        for number in range(nodes):
            node = Oban(pool=dsn, name=f"n{number}", node=f"n{number}", queues={"default": queue})
            await stack.enter_async_context(node)
        await node.enqueue_many(Noted.new(args) for _ in range(count))

        async def all_started() -> bool:
            return len(Noted.started) == count

        await eventually(all_started, 30.0)


async def test_a_global_limit_is_reached_and_never_passed(oban_dsn: str) -> None:
    began = time.monotonic()
    await run(oban_dsn, 60, 3, {"limit": 10, "global_limit": 4}, seconds=0.02)
    assert Noted.most == 4
    # One after the other would take 1.2 s, and polling alone a second for each four.
    assert time.monotonic() - began < 5


async def test_a_rate_is_used_and_never_passed(oban_dsn: str, client: Oban) -> None:
    """By the database's clock: a busy machine may begin late with what it has claimed."""
    period = 1.0
    await run(oban_dsn, 60, 2, {"limit": 10, "rate_limit": {"allowed": 20, "period": period}})
    jobs = await client.list_jobs(JobFilter(limit=100))
    starts = sorted(job.attempted_at.timestamp() for job in jobs if job.attempted_at)
    assert len(starts) == 60
    within = [sum(first <= each < first + period for each in starts) for first in starts]
    assert max(within) <= 20
    assert 2 * period < starts[-1] - starts[0] < 4 * period


async def test_a_weight_is_taken_from_the_rate(oban_dsn: str) -> None:
    job = Noted.options(weight=4).new({})
    assert job.meta == {"weight": 4}
    assert Noted.new({}, weight=2, meta={"a": 1}).meta == {"a": 1, "weight": 2}
    queue = {"limit": 10, "rate_limit": {"allowed": 10, "period": 60}}
    async with Oban(pool=oban_dsn, queues={"default": queue}) as oban:
        await oban.enqueue_many(Noted.options(weight=4).new({}) for _ in range(5))

        async def two_started() -> bool:
            return len(Noted.started) == 2

        await eventually(two_started)
        (info,) = await oban.list_queues()
        assert info.meta["rate_limit"] == {"allowed": 10, "period": 60}
    assert len(Noted.started) == 2


def test_what_a_limit_cannot_be_is_told() -> None:
    for queue, message in [
        ({"global_limit": 0}, "queues.q.global_limit is 0; it is a whole number from 1"),
        ({"rate_limit": {"period": 5}}, "queues.q.rate_limit.allowed is missing"),
        ({"rate_limit": {"allowed": 5, "per": 1}}, "queues.q.rate_limit.per is not an option"),
        ({"rate_limit": "fast"}, "rate_limit.allowed is 'fast'; it is a whole number from 1"),
    ]:
        with pytest.raises(InvalidOption, match=message):
            Oban(pool="postgresql://nowhere", name="wrong", queues={"q": queue})  # type: ignore[dict-item]
    with pytest.raises(InvalidJob, match="weight is 0; it is a whole number from 1"):
        Noted.new({}, weight=0)


async def test_limits_are_scaled_while_nodes_run_and_hold_for_those_that_start_later(
    oban_dsn: str,
) -> None:
    Noted.gate = asyncio.Event()
    quick = {"interval": 0.1, "max_age": 1}
    queue = {"limit": 10, "global_limit": 2}
    async with Oban(pool=oban_dsn, queues={"default": queue}, refresher=quick) as oban:
        await oban.enqueue_many(Noted.new({"gated": True}) for _ in range(8))
        await eventually(lambda: running(2))
        await oban.scale_queue("default", global_limit=5)
        await eventually(lambda: running(5))
        await oban.scale_queue("default", rate_limit={"allowed": 1, "period": 60})
        await oban.scale_queue("default", global_limit=8)

        async def told() -> bool:
            (info,) = await oban.list_queues()
            rate = {"allowed": 1, "period": 60}
            return (info.meta["global_limit"], info.meta["rate_limit"]) == (8, rate)

        await eventually(told)
        await eventually(lambda: running(6))
        commands = {each.aspect: each.value for each in await oban.list_commands()}
        assert commands == {"global_limit": 8, "rate_limit": {"allowed": 1, "period": 60.0}}
        with pytest.raises(InvalidOption, match="nothing to scale"):
            await oban.scale_queue("default")
        with pytest.raises(InvalidOption, match=r"queue\.global_limit is 0"):
            await oban.scale_queue("default", global_limit=0)
        assert await oban.reset_queue("default") == 2
        Noted.gate.set()


async def running(count: int) -> bool:
    return Noted.running == count


@worker(max_attempts=3)
class Asking(Worker):
    """Is told to come later, the first time."""

    asked: ClassVar[list[float]] = []

    async def process(self, job: Job) -> None:
        Asking.asked.append(time.monotonic())
        if len(Asking.asked) == 1:
            raise RateLimited(1.0)


BY_TENANT = {"by": {"args": "tenant"}}


async def test_a_full_partition_keeps_no_other_waiting(oban_dsn: str) -> None:
    Noted.gate = asyncio.Event()
    queue = {"limit": 10, "global_limit": 2, "partition": BY_TENANT}
    async with Oban(pool=oban_dsn, queues={"default": queue}) as oban:
        await oban.enqueue_many(Noted.new({"tenant": 1, "gated": True}) for _ in range(200))

        async def is_full() -> bool:
            return Noted.running == 2

        await eventually(is_full)
        began = time.monotonic()
        await oban.enqueue_many(Noted.new({"tenant": 2}) for _ in range(10))

        async def others_ran() -> bool:
            return len(Noted.started) == 12

        await eventually(others_ran)
        assert time.monotonic() - began < 1
        assert Noted.running == 2
        await oban.scale_queue("default", global_limit=5)

        async def has_more() -> bool:
            return Noted.running == 5

        await eventually(has_more)
        Noted.gate.set()


async def test_back_pressure_slows_all_that_share_the_limit(oban_dsn: str) -> None:
    Asking.asked.clear()
    queues = {"default": 1, "other": 1}
    async with Oban(pool=oban_dsn, queues=queues, limits={"api": 5}) as oban:
        await oban.enqueue(Asking.new(limits=["api"]))

        async def rests() -> bool:
            return bool((await oban.list_limits())[0].resting)

        await eventually(rests)
        await oban.enqueue_many(Asking.new(limits=["api"], queue="other") for _ in range(2))

        async def all_ended() -> bool:
            return len(Asking.asked) == 4

        await eventually(all_ended)
        first, *later = Asking.asked
        assert min(later) - first >= 0.99
        (api,) = await oban.list_limits()
        assert (api.global_limit, api.resting) == (5, 0)


async def test_a_queue_that_is_only_started_has_no_say_in_its_partitions(oban_dsn: str) -> None:
    queue = {"limit": 10, "global_limit": 1, "partition": BY_TENANT}
    async with (
        Oban(pool=oban_dsn, node="one", name="a", queues={"divided": queue}),
        Oban(pool=oban_dsn, node="two", name="b", queues={"default": 1}) as other,
    ):
        await other.start_queue("divided")

        async def runs_there() -> bool:
            return other.check_queue("divided") is not None

        await eventually(runs_there)
        await asyncio.sleep(0.2)
        await other.stop_queue("divided")
        await other.enqueue(Noted.new({"tenant": 1}, queue="divided"))
        with psycopg.connect(direct(oban_dsn)) as connection:
            found = connection.execute("select paths from oban_partitions").fetchall()
        assert found == [([["args", "tenant"]],)]


async def test_a_limit_that_nobody_has_is_told_of_once(
    oban_dsn: str, events: list[tuple[str, Any]]
) -> None:
    async with Oban(pool=oban_dsn, queues={"default": 1}, limits={"api": 5}) as oban:
        waiting = await oban.enqueue(Noted.new(limits=["ipa"]))
        await oban.enqueue(Noted.new(limits=["api"]))

        async def ran() -> bool:
            return len(Noted.started) == 1

        await eventually(ran)
        await asyncio.sleep(0.3)
        found = await oban.get_job(waiting)
        assert found is not None
        assert found.state == "available"
    told = [metadata for name, metadata in events if name == "oban.producer.unknown_limits"]
    assert told == [{"queue": "default", "limits": ["ipa"]}]
