"""The connection is cut between the commit of a statement and its reply."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.faults.proxy import Proxy
from tests.running.support import named, reached

from oban import Job, Oban, Worker, worker
from oban.engines.reads import JobFilter
from oban.errors import OutcomeUnknown

RAN: list[int | str] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    RAN.clear()


@worker()
class Noting(Worker):
    async def process(self, job: Job) -> None:
        RAN.append(job.args["n"])


@pytest.fixture
async def proxy(oban_dsn: str) -> AsyncIterator[Proxy]:
    async with Proxy(oban_dsn) as proxy:
        yield proxy


def is_turn(sql: str) -> bool:
    return "acknowledged" in sql and "candidate" in sql


def is_insert(sql: str) -> bool:
    return "insert into" in sql and "oban_jobs (" in sql


async def all_completed(client: Oban, number: int) -> None:
    async def look() -> bool:
        found = await client.list_jobs(JobFilter(states=["completed"], limit=10_000))
        return len(found) == number

    from tests.running.support import eventually

    await eventually(look, 20)


async def test_the_reply_to_a_claim_is_lost(proxy: Proxy, client: Oban, events: list[Any]) -> None:
    """The jobs were claimed and nobody heard: they are given back uncounted, and run once."""
    async with Oban(pool=proxy.dsn(), name="node", queues={"default": 5}):
        await asyncio.sleep(0.1)
        cut = proxy.cut_before_reply(is_turn)
        await client.enqueue_many(Noting.new({"n": n}) for n in range(5))
        await cut.fired()
        await all_completed(client, 5)
    assert sorted(map(int, RAN)) == [0, 1, 2, 3, 4]
    found = await client.list_jobs(JobFilter())
    assert {job.attempt for job in found} == {1}
    assert sum(len(each["given_back"]) for each in named(events, "oban.producer.reconcile")) == 5


@pytest.mark.slow
async def test_the_replies_to_many_turns_are_lost(
    proxy: Proxy, client: Oban, events: list[Any]
) -> None:
    """Acks and claims share a turn: an ack saved twice changes nothing, a lost claim goes back."""
    async with Oban(pool=proxy.dsn(), name="node", queues={"default": 10}):
        cut = proxy.cut_before_reply(is_turn, times=4)
        for n in range(400):
            await client.enqueue(Noting.new({"n": n}))
        await all_completed(client, 400)
        assert cut.fired_count == 4
    assert sorted(map(int, RAN)) == list(range(400))
    assert {job.attempt for job in await client.list_jobs(JobFilter(limit=1000))} == {1}
    assert named(events, "oban.job.stop")


@pytest.mark.slow
async def test_turns_that_never_arrive(proxy: Proxy, client: Oban) -> None:
    async with Oban(pool=proxy.dsn(), name="node", queues={"default": 10}):
        cut = proxy.cut_before_send(is_turn, times=4)
        for n in range(200):
            await client.enqueue(Noting.new({"n": n}))
        await all_completed(client, 200)
        assert cut.fired_count == 4
    assert sorted(map(int, RAN)) == list(range(200))


async def test_the_reply_to_an_insert_is_lost(proxy: Proxy, client: Oban) -> None:
    """The caller is told that nobody knows; nothing is sent again, and the job is there once."""
    async with Oban(pool=proxy.dsn(), name="enqueuing") as enqueuing:
        await enqueuing.enqueue(Noting.new({"n": 0}))
        proxy.cut_before_reply(is_insert)
        with pytest.raises(OutcomeUnknown, match="look before you repeat"):
            await enqueuing.enqueue(Noting.new({"n": 1}))
        await enqueuing.enqueue(Noting.new({"n": 2}))
    found = await client.list_jobs(JobFilter())
    assert sorted(job.args["n"] for job in found) == [0, 1, 2]


async def test_idle_connections_that_were_cut_cost_an_enqueue_nothing(
    proxy: Proxy, client: Oban
) -> None:
    async with Oban(pool=proxy.dsn(), name="enqueuing") as enqueuing:
        for n in range(5):
            await enqueuing.enqueue(Noting.new({"n": n}))
            proxy.cut_all()
            await asyncio.sleep(0.05)
    assert len(await client.list_jobs(JobFilter())) == 5


@pytest.mark.slow
async def test_a_half_open_connection_holds_up_nothing_for_long(proxy: Proxy, client: Oban) -> None:
    """Nothing answers any more, nothing is closed; then the network is back."""
    async with Oban(pool=proxy.dsn(), name="node", queues={"default": 5}):
        await client.enqueue(Noting.new({"n": 0}))
        await all_completed(client, 1)
        proxy.pause()
        await client.enqueue(Noting.new({"n": 1}))
        await asyncio.sleep(1.0)
        assert RAN == [0]
        proxy.resume()
        await all_completed(client, 2)
    assert RAN == [0, 1]


@pytest.mark.slow
async def test_latency_changes_nothing_but_time(proxy: Proxy, client: Oban) -> None:
    async with Oban(pool=proxy.dsn(), name="node", queues={"default": 5}):
        proxy.latency(0.15)
        await client.enqueue_many(Noting.new({"n": n}) for n in range(20))
        await all_completed(client, 20)
        proxy.latency(0)
    assert sorted(map(int, RAN)) == list(range(20))


@pytest.mark.slow
async def test_an_outage_while_jobs_run_keeps_their_outcome(proxy: Proxy, client: Oban) -> None:
    """What ends during the outage is acknowledged after it, once."""
    async with Oban(pool=proxy.dsn(), name="node", queues={"default": 5}):
        job = await client.enqueue(Slow.new())
        async with asyncio.timeout(5):
            while not RAN:
                await asyncio.sleep(0.01)
        proxy.refuse()
        proxy.cut_all()
        await asyncio.sleep(1.5)
        assert RAN == ["begun", "ended"]
        proxy.accept()
        done = await reached(client, job, "completed")
    assert (done.attempt, RAN) == (1, ["begun", "ended"])


@worker()
class Slow(Worker):
    async def process(self, job: Job) -> None:
        RAN.append("begun")
        await asyncio.sleep(0.5)
        RAN.append("ended")


async def test_a_stop_does_not_wait_for_a_server_that_does_not_answer(
    proxy: Proxy, client: Oban
) -> None:
    """The link stalls under a turn, and nothing is closed: the grace is kept all the same."""
    async with Oban(
        pool=proxy.dsn(), name="node", queues={"default": 5}, shutdown_grace_period=1.0
    ) as oban:
        await client.enqueue(Slow.new())
        async with asyncio.timeout(5):
            while not RAN:
                await asyncio.sleep(0.01)
        proxy.pause()
        async with asyncio.timeout(5):
            while len(RAN) < 2:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        async with asyncio.timeout(4):
            await oban.stop()
        proxy.resume()
