"""Limits over all nodes, on each kind of tables: what a claim may take, however many there are."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from tests.roads import direct

from oban import Job, JobState
from oban.engines.postgres import PostgresEngine
from oban.engines.values import ProducerIdentity, Turn
from oban.limits import QueueLimits
from oban.outcome import Ack

PERIOD = 60.0


def execute(dsn: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(direct(dsn), autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []


class Node:
    """A producer of the queue."""

    def __init__(self, engine: PostgresEngine, limits: QueueLimits) -> None:
        self.engine = engine
        self.limits = limits
        self.identity = ProducerIdentity(str(uuid4()), "Oban", f"node-{uuid4()}", "default")
        self.running: list[Job] = []
        self.last_turn: Turn | None = None

    async def open(self) -> "Node":
        await self.engine.execute(self.engine.register(self.identity, 60.0))
        await self.engine.execute(self.engine.open_limiter("default"))
        return self

    async def turn(self, demand: int, ended: int = 0, **ack: Any) -> Turn:
        acks = [
            Ack(job.id or 0, job.attempt, JobState.COMPLETED, **ack) for job in self.running[:ended]
        ]
        del self.running[:ended]
        turn = await self.engine.execute(
            self.engine.turn(self.identity, acks, demand, None, self.limits)
        )
        assert len(turn.acknowledged) == ended
        self.running += turn.claimed
        return turn

    async def claim(self, demand: int, ended: int = 0) -> int:
        self.last_turn = await self.turn(demand, ended)
        return len(self.last_turn.claimed)

    def again_in(self) -> float | None:
        assert self.last_turn is not None
        return self.last_turn.again_in


async def nodes(engine: PostgresEngine, count: int, limits: QueueLimits) -> list[Node]:
    return [await Node(engine, limits).open() for _ in range(count)]


async def fill(engine: PostgresEngine, count: int, **fields: Any) -> None:
    await engine.execute(engine.insert([Job(worker="w", **fields) for _ in range(count)]))


async def test_no_more_jobs_run_at_once_than_the_global_limit(engine: PostgresEngine) -> None:
    await fill(engine, 50)
    one, two = await nodes(engine, 2, QueueLimits(5))
    assert await one.claim(3) == 3
    assert await two.claim(3) == 2
    assert await one.claim(3) == 0
    assert await two.claim(3, ended=2) == 2  # what ends in a turn makes room for its own claim
    assert await one.claim(1, ended=3) == 1
    assert await two.claim(9) == 2
    assert one.again_in() is two.again_in() is None


async def test_many_that_claim_at_once_never_pass_it(engine: PostgresEngine) -> None:
    await fill(engine, 400)
    all_nodes = await nodes(engine, 8, QueueLimits(5))

    async def work(node: Node) -> int:
        done = 0
        for _ in range(15):
            done += await node.claim(4, ended=len(node.running))
            ((running,),) = await asyncio.to_thread(
                execute,
                dsn_of(engine),
                "select count(*) from oban_jobs where state = 'executing'",
            )
            assert running <= 5
        return done

    done = await asyncio.gather(*map(work, all_nodes))
    assert sum(done) > 15


def dsn_of(engine: PostgresEngine) -> str:
    assert isinstance(engine.pools.connector.conninfo, str)
    return engine.pools.connector.conninfo


async def test_a_job_whose_code_is_being_stopped_takes_its_place(engine: PostgresEngine) -> None:
    await fill(engine, 5)
    (node,) = await nodes(engine, 1, QueueLimits(2))
    assert await node.claim(5) == 2
    assert await engine.execute(engine.cancel([node.running[0].id or 0]))
    assert await node.claim(5) == 0
    assert await node.claim(5, ended=1) == 1


async def test_who_makes_room_tells_those_who_found_none(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    await fill(engine, 10)
    one, two = await nodes(engine, 2, QueueLimits(2))
    with psycopg.connect(direct(oban_dsn), autocommit=True) as listening:
        listening.execute('listen "public.oban_insert"')
        assert await one.claim(2) == 2
        await one.claim(0, ended=1)  # nobody waits for it
        assert await one.claim(1) == 1
        assert await two.claim(2) == 0
        await one.claim(0, ended=1)
        heard = [each.payload for each in listening.notifies(timeout=5, stop_after=1)]
        assert [json.loads(each) for each in heard] == [{"queue": "default"}]
        await one.claim(0, ended=1)
        assert not list(listening.notifies(timeout=0.2))


async def test_no_more_weight_starts_within_a_period_than_is_allowed(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    await fill(engine, 30)
    one, two = await nodes(engine, 2, QueueLimits(allowed=10, period=PERIOD))
    assert await one.claim(6) == 6
    assert one.again_in() is None
    assert await two.claim(6) == 4
    assert PERIOD < (two.again_in() or 0) <= PERIOD * 1.05
    assert await one.claim(6, ended=6) == 0  # that they have ended makes no room
    later(oban_dsn, PERIOD - 0.1)
    assert await one.claim(6) == 0
    assert 0 < (one.again_in() or 0) < PERIOD * 0.05
    later(oban_dsn, PERIOD * 0.05)
    assert await one.claim(20) == 10


def later(dsn: str, seconds: float) -> None:
    """As if so much time had passed: what was counted moves back by so many spans."""
    spans = round(seconds * 60 / PERIOD)
    execute(
        dsn,
        "update oban_limiters set spent = (select jsonb_object_agg(cast(key as bigint) - %s, "
        "value) from jsonb_each(spent)) where spent <> '{}'",
        spans,
    )


async def test_a_job_weighs_what_its_meta_says_and_a_heavy_one_is_not_passed_over(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    for weight in (4, 4, 4, 1):
        await fill(engine, 1, meta={"weight": weight})
    (node,) = await nodes(engine, 1, QueueLimits(allowed=10, period=PERIOD))
    assert await node.claim(9) == 2
    assert node.again_in() is not None
    later(oban_dsn, 2 * PERIOD)
    assert await node.claim(9) == 2


async def test_a_job_heavier_than_all_that_is_allowed_runs_alone(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    await fill(engine, 2, meta={"weight": 1_000})
    await fill(engine, 1, meta={"weight": "heavy"})
    (node,) = await nodes(engine, 1, QueueLimits(allowed=10, period=PERIOD))
    assert await node.claim(9) == 1
    later(oban_dsn, 2 * PERIOD)
    assert await node.claim(9) == 1
    later(oban_dsn, 2 * PERIOD)
    assert await node.claim(9) == 1


async def test_both_limits_hold_together(engine: PostgresEngine) -> None:
    await fill(engine, 20)
    (node,) = await nodes(engine, 1, QueueLimits(2, 5, PERIOD))
    claimed = [await node.claim(5, ended=len(node.running)) for _ in range(4)]
    assert claimed == [2, 2, 1, 0]


async def test_without_the_limiter_nothing_is_claimed(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    await fill(engine, 3)
    (node,) = await nodes(engine, 1, QueueLimits(2))
    execute(oban_dsn, "delete from oban_limiters")
    assert await node.claim(2) == 0
    await node.open()
    assert await node.claim(2) == 2


@pytest.mark.parametrize("limits", [QueueLimits(1000), QueueLimits(allowed=1000, period=1.0)])
async def test_what_is_kept_of_a_rate_is_bounded(
    engine: PostgresEngine, oban_dsn: str, limits: QueueLimits
) -> None:
    await fill(engine, 300)
    (node,) = await nodes(engine, 1, limits)
    for _ in range(100):
        await node.claim(1, ended=len(node.running))
        await asyncio.sleep(0.012)
    ((kept,),) = execute(oban_dsn, "select count(*) from oban_limiters, jsonb_each(spent)")
    assert kept <= 63
