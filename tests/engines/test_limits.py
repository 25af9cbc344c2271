"""Limits over all nodes, on each kind of tables: what a claim may take, however many there are."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.roads import direct

from oban import Job, JobState
from oban.engines.postgres import PostgresEngine, runs
from oban.engines.postgres.limits import SPANS
from oban.engines.reads import JobFilter
from oban.engines.runs import ProducerIdentity, Turn
from oban.errors import DatabaseError
from oban.limits import Limits, Partition, QueueLimits
from oban.outcome import Ack

PERIOD = 60.0


def execute(dsn: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(direct(dsn), autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []


class Node:
    """A producer of the queue."""

    def __init__(
        self,
        engine: PostgresEngine,
        limits: QueueLimits,
        shared: Mapping[str, Limits] = MappingProxyType({}),
        queue: str = "default",
    ) -> None:
        self.engine = engine
        self.limits = limits
        self.shared = shared
        self.identity = ProducerIdentity(str(uuid4()), "Oban", f"node-{uuid4()}", queue)
        self.running: list[Job] = []
        self.last_turn: Turn | None = None
        self.from_lane: str | None = None
        self.skipped: tuple[str, ...] = ()

    async def open(self) -> "Node":
        await self.engine.execute(self.engine.register(self.identity, 60.0))
        opening = self.engine.open_limits(
            self.identity.queue, self.limits.partition, self.shared, overrule=True
        )
        await self.engine.execute(opening)
        return self

    async def turn(self, demand: int, ended: int = 0, **ack: Any) -> Turn:
        acks = [
            Ack(job.id or 0, job.attempt, JobState.COMPLETED, **ack) for job in self.running[:ended]
        ]
        del self.running[:ended]
        turn = await self.engine.execute(
            self.engine.turn(
                self.identity,
                acks,
                demand,
                None,
                self.limits,
                from_lane=self.from_lane,
                skipped=self.skipped,
            )
        )
        self.from_lane = turn.last_lane
        self.skipped = tuple(turn.refusing)
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
    spans = round(seconds * SPANS / PERIOD)
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


async def test_a_limiter_that_somebody_has_deleted_is_made_anew(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    await fill(engine, 5)
    one, two = await nodes(engine, 2, QueueLimits(2))
    execute(oban_dsn, "delete from oban_limiters")
    assert [await one.claim(1), await two.claim(2), await one.claim(2)] == [1, 1, 0]


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
    assert kept <= SPANS + 6


# Partitions and shared limits. Each job of these has a tenant.

BY_TENANT = Partition.parse("partition", {"by": {"args": "tenant"}})


async def fill_tenants(engine: PostgresEngine, **counts: int) -> None:
    jobs = [
        Job(worker="w", args={"tenant": tenant})
        for tenant, count in counts.items()
        for _ in range(count)
    ]
    await engine.execute(engine.insert(jobs))


def tenants(jobs: Sequence[Job]) -> dict[str, int]:
    return dict(sorted(Counter(job.args["tenant"] for job in jobs).items()))


async def test_a_limit_holds_for_each_partition(engine: PostgresEngine) -> None:
    one, two = await nodes(engine, 2, QueueLimits(2, partition=BY_TENANT))
    await fill_tenants(engine, a=9, b=9, c=1)
    assert await one.claim(3) == 3
    assert await two.claim(9) == 2
    assert tenants([*one.running, *two.running]) == {"a": 2, "b": 2, "c": 1}
    assert await one.claim(9) == 0
    assert await one.claim(9, ended=1) == 1
    assert tenants([*one.running, *two.running])["a"] == 2


async def test_a_full_partition_keeps_no_other_waiting(engine: PostgresEngine) -> None:
    (node,) = await nodes(engine, 1, QueueLimits(1, partition=BY_TENANT))
    await fill_tenants(engine, full=500)
    await fill_tenants(engine, other=1)
    assert await node.claim(5) == 2
    assert tenants(node.running) == {"full": 1, "other": 1}


async def test_the_rate_holds_for_each_partition(engine: PostgresEngine) -> None:
    limits = QueueLimits(allowed=3, period=PERIOD, partition=BY_TENANT)
    one, two = await nodes(engine, 2, limits)
    await fill_tenants(engine, a=9, b=2)
    assert await one.claim(4) == 4
    assert await two.claim(9) == 1
    assert tenants([*one.running, *two.running]) == {"a": 3, "b": 2}
    assert await one.claim(9, ended=4) == 0
    assert PERIOD * 0.9 < (one.again_in() or 0) < PERIOD * 1.1


async def test_partitions_are_told_apart_by_all_that_they_are_made_of(
    engine: PostgresEngine,
) -> None:
    by = {"by": ["worker", {"args": ["tenant", "account.id"]}, {"meta": "region"}]}
    limits = QueueLimits(1, partition=Partition.parse("partition", by))
    (node,) = await nodes(engine, 1, limits)
    args: list[dict[str, Any]] = [
        {},
        {"tenant": 1},
        {"tenant": "1"},
        {"tenant": None},
        {"account": {"id": 1}},
    ]
    jobs = [Job(worker=name, args=each) for name in ("v", "w") for each in args]
    jobs += [Job(worker="w", meta={"region": region}) for region in ("eu", "us", ["eu"])]
    await engine.execute(engine.insert([*jobs, *jobs]))
    assert await node.claim(99) == 11  # nothing and null are one
    assert await node.claim(99) == 0


async def test_jobs_that_others_have_inserted_are_placed(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    await fill_tenants(engine, early=2)  # before anybody has said what divides them
    (node,) = await nodes(engine, 1, QueueLimits(1, partition=BY_TENANT))
    execute(oban_dsn, """insert into oban_jobs (worker, args) values ('w', '{"tenant": "sql"}')""")
    assert await node.claim(9) == 0
    assert (await engine.execute(engine.stage(["default"], 10))).misplaced == ["default"]
    assert await engine.execute(engine.place("default", 2)) == 2
    assert await engine.execute(engine.place("default", 2)) == 1
    assert (await engine.execute(engine.stage(["default"], 10))).misplaced == []
    assert await node.claim(9) == 2
    assert tenants(node.running) == {"early": 1, "sql": 1}


async def test_jobs_move_to_other_lanes_when_what_divides_them_changes(
    engine: PostgresEngine,
) -> None:
    await nodes(engine, 1, QueueLimits(1, partition=BY_TENANT))
    await fill_tenants(engine, a=1, b=1)
    by_worker = Partition.parse("partition", {"by": "worker"})
    (node,) = await nodes(engine, 1, QueueLimits(1, partition=by_worker))
    assert (await engine.execute(engine.stage(["default"], 10))).misplaced == ["default"]
    assert await engine.execute(engine.place("default", 10)) == 2
    assert await node.claim(9) == 1
    (node,) = await nodes(engine, 1, QueueLimits())
    assert await engine.execute(engine.place("default", 10)) == 1
    assert not (await engine.execute(engine.stage(["default"], 10))).heads["default"].is_laned


async def test_a_job_that_is_changed_moves_to_its_lane(
    engine: PostgresEngine,
) -> None:
    (node,) = await nodes(engine, 1, QueueLimits(1, partition=BY_TENANT))
    await fill_tenants(engine, a=2)
    jobs = await engine.execute(engine.search(JobFilter()))
    changing = engine.update([jobs[0].id or 0], lambda _: {"args": {"tenant": "b"}})
    await engine.execute(changing)
    assert await node.claim(9) == 2


async def test_queues_share_a_limit_by_its_name(engine: PostgresEngine) -> None:
    shared = {"api": Limits(3)}
    one = await Node(engine, QueueLimits(), shared).open()
    two = await Node(engine, QueueLimits(), shared, queue="other").open()
    for queue in ("default", "other"):
        await fill(engine, 9, queue=queue, meta={"limits": ["api"]})
    await fill(engine, 2)
    assert await one.claim(2) == 2
    assert await two.claim(9) == 1
    assert await one.claim(9) == 2  # those that name no limit
    assert await two.claim(9) == 0
    assert await one.claim(0, ended=1) == 0
    assert await two.claim(9) == 1


async def test_a_job_passes_every_limit_that_it_names(engine: PostgresEngine) -> None:
    shared = {"a": Limits(5), "b": Limits(2), "c": Limits(allowed=1, period=PERIOD)}
    node = await Node(engine, QueueLimits(7), shared).open()
    await fill(engine, 9, meta={"limits": ["c", "a"]})
    await fill(engine, 9, meta={"limits": ["b", "a"]})
    await fill(engine, 9, meta={"limits": ["a"]})
    await fill(engine, 9)
    while await node.claim(99):
        pass
    named = Counter(tuple(job.meta.get("limits", ())) for job in node.running)
    assert named == {("c", "a"): 1, ("b", "a"): 2, ("a",): 2, (): 2}


async def test_jobs_wait_for_a_limit_that_nobody_has_defined(engine: PostgresEngine) -> None:
    node = await Node(engine, QueueLimits(), {"api": Limits(3)}).open()
    await fill(engine, 2, meta={"limits": ["ipa"]})
    turn = await node.turn(9)
    assert (turn.claimed, list(turn.unknown_limits)) == ((), ["ipa"])
    definer = await Node(engine, QueueLimits(), {"ipa": Limits(1)}).open()
    assert [await node.claim(9), await definer.claim(9)] == [1, 0]


async def test_back_pressure_slows_the_limit_and_not_only_the_job(
    engine: PostgresEngine,
) -> None:
    limits = QueueLimits(4, partition=BY_TENANT)
    (node,) = await nodes(engine, 1, limits)
    await fill_tenants(engine, a=4, b=4)
    assert await node.claim(2) == 2
    assert tenants(node.running) == {"a": 2}
    turn = await node.turn(9, ended=1, slows={"seconds": 30.0, "limit": None})
    assert tenants(turn.claimed) == {"b": 4}
    assert 25 < (turn.again_in or 0) <= 30


async def test_back_pressure_on_a_shared_limit_slows_all_its_queues(
    engine: PostgresEngine,
) -> None:
    shared = {"api": Limits(9), "db": Limits(9)}
    one = await Node(engine, QueueLimits(), shared).open()
    two = await Node(engine, QueueLimits(), shared, queue="other").open()
    await fill(engine, 1, meta={"limits": ["api", "db"]})
    await fill(engine, 3, queue="other", meta={"limits": ["api"]})
    await fill(engine, 3, queue="other", meta={"limits": ["db"]})
    assert await one.claim(1) == 1
    await one.turn(0, ended=1, slows={"seconds": 30.0, "limit": "api"})
    assert await two.claim(9) == 3
    assert {tuple(job.meta["limits"]) for job in two.running} == {("db",)}
    api, db = await engine.execute(engine.shared_limits())
    assert (api.name, api.running, db.name, db.running) == ("api", 0, "db", 3)
    assert 25 < api.resting <= 30
    assert db.resting == 0


async def test_a_shared_limit_is_scaled_for_all_and_reset(engine: PostgresEngine) -> None:
    node = await Node(engine, QueueLimits(), {"api": Limits(1)}).open()
    await fill(engine, 9, meta={"limits": ["api"]})
    assert await node.claim(9) == 1
    assert await engine.execute(engine.scale_limit("api", {"global_limit": 3}))
    assert not await engine.execute(engine.scale_limit("ipa", {"global_limit": 3}))
    await node.open()  # a node that starts does not overrule it
    assert await node.claim(9) == 2
    (info,) = await engine.execute(engine.shared_limits())
    assert (info.global_limit, info.running, info.scaled) == (3, 3, True)
    assert await engine.execute(engine.reset_limit("api"))
    assert await node.claim(9, ended=3) == 1


async def test_more_lanes_than_one_claim_looks_at_are_gone_through_in_turn(
    engine: PostgresEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runs, "MOST_LANES", 3)
    (node,) = await nodes(engine, 1, QueueLimits(1, partition=BY_TENANT))
    await fill_tenants(engine, **{f"t{number}": 2 for number in range(8)})
    claims = [await node.claim(9) for _ in range(3)]
    assert claims == [3, 3, 2]
    assert set(tenants(node.running).values()) == {1}


async def test_what_is_kept_of_partitions_is_forgotten(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    (node,) = await nodes(engine, 1, QueueLimits(allowed=9, period=0.1, partition=BY_TENANT))
    await fill_tenants(engine, a=1, b=1)
    assert await node.claim(9) == 2
    assert execute(oban_dsn, "select count(*) from oban_limiters") == [(3,)]
    await asyncio.sleep(0.3)
    assert await engine.execute(engine.forget_limiters()) == 2
    assert execute(oban_dsn, "select count(*) from oban_limiters") == [(1,)]


async def test_a_turn_without_limits_leaves_jobs_in_lanes_alone(engine: PostgresEngine) -> None:
    (node,) = await nodes(engine, 1, QueueLimits(1, partition=BY_TENANT))
    await fill_tenants(engine, a=2)
    turn = engine.turn(node.identity, [], 9)
    assert (await engine.execute(turn)).claimed == ()
    turn = engine.turn(node.identity, [], 9, any_lane=True)
    assert len((await engine.execute(turn)).claimed) == 2


@pytest.mark.parametrize(
    "meta",
    [
        {"limits": "api"},
        {"limits": [None, {}, "a b", "x,y", "", "limit", "ü"]},
        {"limits": {"api": 1}},
        {"limits": None, "weight": "heavy"},
        {"weight": 1.5},
        {"weight": -1e300},
        {"weight": 1e300},
    ],
)
async def test_whatever_stands_in_meta_stops_no_queue(
    engine: PostgresEngine, oban_dsn: str, meta: object
) -> None:
    limits = QueueLimits(9, 9, PERIOD, partition=BY_TENANT)
    node = await Node(engine, limits, {"limit": Limits(5, 5, PERIOD)}).open()
    values = "('w', '{\"tenant\": 1}', %s), ('w', '[]', %s), ('w', '3', null)"
    text = json.dumps(meta)
    execute(oban_dsn, "alter table oban_jobs alter meta drop not null")
    execute(oban_dsn, f"insert into oban_jobs (worker, args, meta) values {values}", text, text)
    await engine.execute(engine.place("default", 10))
    for _ in range(3):
        await node.claim(9)
    assert len(node.running) >= 2


@pytest.mark.own_session("a pooler takes no options of a session")
async def test_limits_hold_whatever_isolation_is_the_default(oban_dsn: str) -> None:
    """Under another one a claim would count what was, before it had to wait for its turn."""
    isolation = "-c default_transaction_isolation=serializable"
    engine = PostgresEngine(make_conninfo(oban_dsn, options=isolation))
    node = await Node(engine, QueueLimits(2)).open()
    await fill(engine, 3)
    session = engine.session("oban test")
    turn = engine.turn(node.identity, [], 9, None, QueueLimits(2))
    assert len((await session.execute(turn)).claimed) == 2
    with pytest.raises(DatabaseError, match="limits need the isolation level read committed"):
        await engine.execute(turn)
    await session.close()
    await engine.close()


async def test_a_job_that_names_too_many_limits_waits_and_holds_up_nothing(
    engine: PostgresEngine,
) -> None:
    node = await Node(engine, QueueLimits(), {"api": Limits(3)}).open()
    names = [f"{number:03}{'x' * 97}" for number in range(60)]
    soon = {"scheduled_at": datetime.now(UTC) + timedelta(seconds=0.2)}
    await fill(engine, 1, meta={"limits": names}, **soon)
    await fill(engine, 1, **soon)
    await asyncio.sleep(0.3)
    assert (await engine.execute(engine.stage(["default"], 10))).staged_count == 2
    turn = await node.turn(9)
    assert (len(turn.claimed), list(turn.unknown_limits)) == (1, ["*too-many*"])


@pytest.mark.parametrize(("before", "after"), [(1.0, 60.0), (60.0, 50.0), (60.0, 1.0)])
async def test_what_was_spent_counts_by_another_period_too(
    engine: PostgresEngine, before: float, after: float
) -> None:
    node = await Node(engine, QueueLimits(), {"api": Limits(allowed=10, period=before)}).open()
    await fill(engine, 30, meta={"limits": ["api"]})
    assert await node.claim(9) == 9
    rate: Mapping[str, float] = {"allowed": 10, "period": after}
    await engine.execute(engine.scale_limit("api", {"rate_limit": rate}))
    assert await node.claim(9) == 1
    assert await node.claim(9) == 0
    assert 0 < (node.again_in() or 0) <= after * 1.1


async def test_who_removes_partitions_has_the_say(engine: PostgresEngine, oban_dsn: str) -> None:
    divided = QueueLimits(2, partition=BY_TENANT)
    await nodes(engine, 1, divided)
    (node,) = await nodes(engine, 1, QueueLimits(2))
    repeated = engine.open_limits("default", BY_TENANT, {}, overrule=False)
    await engine.execute(repeated)  # by a node of before, that still runs
    await fill_tenants(engine, a=3, b=3)
    assert await node.claim(9) == 2
    assert execute(oban_dsn, "select paths from oban_partitions") == [(None,)]


async def test_jobs_that_name_no_limit_are_not_kept_waiting_by_heavy_ones(
    engine: PostgresEngine,
) -> None:
    shared = {"api": Limits(allowed=10, period=PERIOD)}
    node = await Node(engine, QueueLimits(2), shared).open()
    await fill(engine, 1, meta={"limits": ["api"], "weight": 8})
    assert await node.claim(1) == 1
    await fill(engine, 2, meta={"limits": ["api"], "weight": 8})
    await fill(engine, 5)
    assert await node.claim(2, ended=1) == 0
    assert (node.again_in(), node.skipped) == (0, ("limit api",))
    assert await node.claim(2) == 2
    assert {tuple(job.meta) for job in node.running} == {()}


async def test_a_job_that_runs_counts_as_what_it_was_claimed_as(engine: PostgresEngine) -> None:
    node = await Node(engine, QueueLimits(), {"api": Limits(1)}).open()
    await fill(engine, 2, meta={"limits": ["api"]})
    assert await node.claim(9) == 1
    identity = node.running[0].id or 0
    await engine.execute(engine.update([identity], lambda _: {"meta": {"progress": 5}}))
    assert await node.claim(9) == 0


async def test_acks_are_saved_whatever_isolation_there_is(oban_dsn: str) -> None:
    engine = PostgresEngine(oban_dsn)
    node = await Node(engine, QueueLimits(2)).open()
    await fill(engine, 1)
    assert await node.claim(1) == 1
    with psycopg.connect(direct(oban_dsn)) as connection:
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        ack = Ack(node.running[0].id or 0, 1, JobState.COMPLETED)
        turn = next(engine.turn(node.identity, [ack], 0, None, QueueLimits(2)).steps())
        (row,) = (
            psycopg.RawCursor(connection)
            .execute(turn.sql.numbered.encode(), turn.values)
            .fetchall()
        )
    assert row[0] == []
    await engine.close()
