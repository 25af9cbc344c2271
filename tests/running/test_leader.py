"""Leading, between real Obans on one database."""

import asyncio
import math
from typing import Any

import pytest
from tests.running.support import Running, eventually, named

from oban import Oban
from oban.engines.nodes import Lease
from oban.running.leader import Leader

QUICK = {"interval": 0.2, "max_age": 1}


async def leads(oban: Oban, deadline: float = 5.0) -> None:
    async def look() -> bool:
        return oban.is_leader

    await eventually(look, deadline)


async def test_a_node_with_queues_leads(running: Running) -> None:
    async with running() as oban:
        led = [oban.is_leader]
    assert [*led, oban.is_leader] == [True, False]


@pytest.mark.parametrize("options", [{"queues": None}, {"leadership": False}])
async def test_a_client_never_leads_and_neither_does_one_that_may_not(
    running: Running, options: dict[str, Any]
) -> None:
    async with running(**options) as oban:
        assert not oban.is_leader


async def test_one_may_lead_without_queues_where_that_is_asked_for(running: Running) -> None:
    async with running(queues=None, leadership=True) as oban:
        assert oban.is_leader


async def test_one_of_two_leads_and_the_other_follows_it_at_once(running: Running) -> None:
    async with running(name="first", refresher=QUICK), running(refresher={"interval": 60}) as two:
        assert two.is_leader  # of another name
    # The second looks by itself once a minute: it must hear of the resignation.
    async with running(refresher=QUICK) as one, running(refresher={"interval": 60}) as two:
        assert [one.is_leader, two.is_leader] == [True, False]
        await one.stop()
        await leads(two)


async def test_a_follower_takes_over_when_the_lease_ends_and_not_an_interval_later(
    running: Running,
) -> None:
    async with running(refresher=QUICK) as one, running(refresher={"interval": 60}) as two:
        assert one.running_node is not None
        # A process that is gone: it neither renews nor resigns.
        one.running_node.heart.leader.candidate = None
        await leads(two, deadline=3)


async def test_a_change_is_told(running: Running, events: list[Any]) -> None:
    async with running(refresher=QUICK):
        pass
    assert [told["leader"] for told in named(events, "oban.leader.change")] == [True]
    assert named(events, "oban.leader.election.stop")[0]["leader"] is True


async def test_two_processes_of_one_node_name_have_one_leader(running: Running) -> None:
    same = {"node": "same", "refresher": QUICK}
    async with running(**same) as one, running(**same) as two:
        for _ in range(10):
            assert [one.is_leader, two.is_leader] == [True, False]
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(("asked_at", "leads"), [(-1_000_000.0, False), (math.inf, True)])
def test_a_lease_is_over_by_our_own_clock_whatever_is_heard(asked_at: float, leads: bool) -> None:
    leader = Leader("node", wanted=True)
    assert leader.candidate is not None
    leader.hear(Lease(leader.candidate, "node", 1, 6.0), asked_at, length=6.0)
    assert leader.is_leader == leads
    assert (leader.next_look() == math.inf) == leads


def test_a_follower_looks_when_the_lease_ends() -> None:
    leader = Leader("node", wanted=True)
    assert leader.next_look() < 0.3
    leader.hear(Lease("another", "other", 2, 4.0), asked_at=math.inf, length=6.0)
    assert not leader.is_leader
    assert 3.9 < leader.next_look() < 4.3
