"""One lease per name: taken, renewed, freed and mirrored."""

from uuid import uuid4

import psycopg
import pytest
from tests.roads import direct

from oban.engines.nodes import Lease, Report
from oban.engines.postgres import PostgresEngine

LEASE = 6.0


class Candidate:
    def __init__(self, engine: PostgresEngine, node: str, name: str = "Oban") -> None:
        self.engine = engine
        self.node = node
        self.name = name
        self.uuid = str(uuid4())

    async def beat(self, *, wanted: bool = True) -> Lease | None:
        candidate = self.uuid if wanted else None
        report = Report(self.name, self.node, [], 10.0, candidate, LEASE)
        return (await self.engine.execute(self.engine.beat(report))).lease

    async def leads(self) -> bool:
        lease = await self.beat()
        assert lease is not None
        return lease.uuid == self.uuid

    async def resign(self) -> None:
        await self.engine.execute(self.engine.resign(self.name, self.node, self.uuid))


def expire(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("update oban_leases set expires_at = now() - interval '1 ms'")
        connection.execute("update oban_leaders set expires_at = timezone('UTC', now())")


def mirror(dsn: str) -> list[tuple[str, str]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("select name, node from oban_leaders").fetchall()


async def test_the_first_leads_and_goes_on_leading(engine: PostgresEngine, oban_dsn: str) -> None:
    one, two = Candidate(engine, "one"), Candidate(engine, "two")
    first = await one.beat()
    assert first is not None
    assert (first.uuid, first.node, first.epoch) == (one.uuid, "one", 1)
    assert 0 < first.expires_in <= LEASE
    for _ in range(3):
        assert not await two.leads()
        assert await one.leads()
    again = await one.beat()
    assert again is not None
    assert again.epoch == 1
    assert mirror(oban_dsn) == [("Oban", "one")]


async def test_one_that_does_not_want_it_never_leads(engine: PostgresEngine) -> None:
    one, two = Candidate(engine, "one"), Candidate(engine, "two")
    assert await one.beat(wanted=False) is None
    assert await two.leads()
    seen = await one.beat(wanted=False)
    assert seen is not None
    assert seen.uuid == two.uuid


async def test_a_lease_that_ended_goes_to_whoever_asks(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    one, two = Candidate(engine, "one"), Candidate(engine, "two")
    assert await one.leads()
    expire(oban_dsn)
    taken = await two.beat()
    assert taken is not None
    assert (taken.uuid, taken.epoch) == (two.uuid, 2)
    assert not await one.leads()
    assert mirror(oban_dsn) == [("Oban", "two")]


async def test_resigning_frees_it_at_once(engine: PostgresEngine, oban_dsn: str) -> None:
    one, two = Candidate(engine, "one"), Candidate(engine, "two")
    assert await one.leads()
    await two.resign()  # it has nothing to resign from
    assert not await two.leads()
    with psycopg.connect(direct(oban_dsn), autocommit=True) as connection:
        connection.execute('listen "public.oban_leader"')
        await one.resign()
        (heard,) = connection.notifies(timeout=5, stop_after=1)
    assert heard.payload == '{"action" : "resign", "name" : "Oban", "node" : "one"}'
    assert mirror(oban_dsn) == []
    assert await two.leads()


async def test_two_processes_of_one_node_name_are_two(engine: PostgresEngine) -> None:
    one, two = Candidate(engine, "same"), Candidate(engine, "same")
    assert [await one.leads(), await two.leads(), await one.leads()] == [True, False, True]


async def test_each_name_has_its_own_leader(engine: PostgresEngine) -> None:
    assert await Candidate(engine, "one").leads()
    assert await Candidate(engine, "one", name="Other").leads()


async def test_a_crash_of_the_database_empties_the_mirror_and_not_the_lease(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    one, two = Candidate(engine, "one"), Candidate(engine, "two")
    assert await one.leads()
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute("truncate oban_leaders")
    assert not await two.leads()
    assert await one.leads()
    assert mirror(oban_dsn) == [("Oban", "one")]


@pytest.mark.parametrize("ended", [True, False])
async def test_the_mirror_is_left_to_a_foreign_leader_until_its_time_is_over(
    engine: PostgresEngine, oban_dsn: str, ended: bool
) -> None:
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute(
            "insert into oban_leaders values "
            "('Oban', 'foreign', timezone('UTC', now()), timezone('UTC', now()) + %s)",
            ["-1 s" if ended else "1 min"],
        )
    one = Candidate(engine, "one")
    assert await one.leads()
    assert mirror(oban_dsn) == [("Oban", "one" if ended else "foreign")]
