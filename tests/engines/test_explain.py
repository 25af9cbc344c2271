"""What is read of a job and its surroundings, on each kind of tables."""

import json
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from tests.roads import direct

from oban import Job
from oban.engines.commands import EVERY
from oban.engines.explain import MOST_AHEAD, JobFacts, KeyHolder
from oban.engines.nodes import Pulse, Report, Sighting
from oban.engines.postgres import PostgresEngine
from oban.engines.runs import ProducerIdentity
from oban.explaining import explain
from oban.limits import Limits, Partition, QueueLimits


def execute(dsn: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(direct(dsn), autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []


async def read(engine: PostgresEngine, job: Job | int) -> JobFacts:
    identity = job.id if isinstance(job, Job) else job
    assert identity is not None
    facts = await engine.execute(engine.explain(identity))
    assert facts is not None
    assert explain(facts).causes
    return facts


async def insert(engine: PostgresEngine, count: int = 1, **columns: Any) -> list[Job]:
    return await engine.execute(engine.insert([Job(worker="w", **columns)] * count))


async def beat(engine: PostgresEngine, producer: ProducerIdentity, **meta: Any) -> None:
    """As a node does it."""
    began = (await read(engine, (await insert(engine))[0])).at
    pulse = Pulse(producer, began, {"limit": 10, "paused": False, "running": [], **meta}, [])
    report = Report(producer.name, producer.node, [pulse], 10.0, None, 6.0)
    await engine.execute(engine.beat(report))


def producer(node: str = "web-1", queue: str = "mail") -> ProducerIdentity:
    return ProducerIdentity(str(uuid4()), "Oban", node, queue)


async def test_there_may_be_no_such_job(engine: PostgresEngine) -> None:
    assert await engine.execute(engine.explain(1)) is None


async def test_jobs_before_it_are_counted_in_their_order_and_to_a_bound(
    engine: PostgresEngine,
) -> None:
    await insert(engine, 3, queue="mail", priority=1)
    await insert(engine, 2, queue="mail", priority=3)
    await insert(engine, 4, queue="other", priority=1)
    (job,) = await insert(engine, queue="mail", priority=2)
    assert (await read(engine, job)).ahead_count == 3
    await insert(engine, MOST_AHEAD, queue="mail")
    facts = await read(engine, job)
    assert facts.ahead_count == MOST_AHEAD + 1
    assert facts.oldest_wait is not None


async def test_who_runs_the_queue_and_what_is_commanded_is_read(engine: PostgresEngine) -> None:
    mine, elsewhere = producer(), producer("web-2", "default")
    await beat(engine, mine, paused=True)
    await beat(engine, elsewhere)
    for queue in ("mail", "default", EVERY):
        await engine.execute(engine.command("Oban", queue, EVERY, {"paused": True}))
    (job,) = await insert(engine, queue="mail")
    facts = await read(engine, job)
    assert [each.known.identity for each in facts.runners] == [mine]
    assert facts.runners[0].alive
    assert facts.runners[0].known.meta["paused"] is True
    assert list(facts.living_queues) == ["default", "mail"]
    assert {each.queue for each in facts.intents["Oban"]} == {"mail", EVERY}


async def test_a_producer_of_another_package_is_seen_as_such(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    uuid = str(uuid4())
    execute(
        oban_dsn,
        "insert into oban_producers (uuid, name, node, queue, meta, started_at, updated_at) "
        "values (%s, 'Oban', 'theirs', 'mail', '[1]', timezone('UTC', now()), "
        "timezone('UTC', now()))",
        uuid,
    )
    (row,) = execute(
        oban_dsn,
        "insert into oban_jobs (worker, queue, state, attempt, attempted_by, attempted_at) "
        "values ('w', 'mail', 'executing', 1, %s, timezone('UTC', now())) returning id",
        ["theirs", uuid],
    )
    facts = await read(engine, row[0])
    assert facts.runner is not None
    assert not facts.runner.is_ours
    assert facts.runner.longest_id == row[0]
    assert not facts.living_queues


async def test_how_much_of_the_limits_is_used_is_read(engine: PostgresEngine) -> None:
    mine = producer()
    shared = {"api": Limits(5, 10, 60.0)}
    await engine.execute(engine.open_limits("mail", None, shared, overrule=True))
    await beat(engine, mine, global_limit=3, rate_limit={"allowed": 8, "period": 60.0})
    await insert(engine, 4, queue="mail", meta={"limits": ["api"], "weight": 2})
    limits = QueueLimits(3, 8, 60.0)
    turn = await engine.execute(engine.turn(mine, [], 10, None, limits))
    assert len(turn.claimed) == 3
    (job,) = await insert(engine, queue="mail", meta={"limits": ["api", "none"], "weight": 3})
    facts = await read(engine, job)
    rooms = {(each.scope, each.name): each for each in facts.rooms}
    own, api = rooms["queue", "mail"], rooms["shared", "api"]
    assert (own.slots, own.running, own.allowed, own.started) == (3, 3, 8, 6)
    assert (api.slots, api.running, api.allowed, api.started) == (5, 3, 10, 6)
    assert own.reopens_in is not None
    assert 50 < own.reopens_in < 63
    assert not rooms["shared", "none"].is_known
    assert facts.weight == 3


async def test_a_job_that_names_too_many_limits_is_told_so(engine: PostgresEngine) -> None:
    (job,) = await insert(engine, queue="mail", meta={"limits": [f"l{n}" for n in range(11)]})
    causes = {each.code: each.text for each in explain(await read(engine, job)).causes}
    assert causes["unknown_limit"].startswith("it names more than 10 limits")


async def test_of_a_partition_only_its_own_jobs_count(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    mine = producer()
    partition = Partition.parse("partition", {"by": {"args": "tenant"}})
    await engine.execute(engine.open_limits("mail", partition, {}, overrule=True))
    await beat(engine, mine, global_limit=1)
    for tenant in ("a", "b"):
        await insert(engine, 3, queue="mail", args={"tenant": tenant})
    turn = await engine.execute(
        engine.turn(mine, [], 10, None, QueueLimits(1, partition=partition))
    )
    assert len(turn.claimed) == 2
    (job,) = await insert(engine, queue="mail", args={"tenant": "a"})
    facts = await read(engine, job)
    (room,) = facts.rooms
    assert (room.scope, room.name, room.slots, room.running) == ("partition", "mail", 1, 1)
    assert facts.ahead_count == 2
    (row,) = execute(
        oban_dsn, "insert into oban_jobs (worker, queue) values ('w', 'mail') returning id"
    )
    assert (await read(engine, row[0])).is_unplaced


async def test_who_holds_a_unique_key_is_read(engine: PostgresEngine) -> None:
    (job,) = await insert(engine, unique=True)
    assert (await read(engine, job)).holder == KeyHolder(job.id or 0, "available")


async def test_a_job_that_lost_its_unique_key_says_to_whom(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    unique = {"states": ["available", "scheduled"]}
    (first,) = await insert(engine, unique=unique)
    await engine.execute(engine.cancel([first.id or 0]))
    (second,) = await insert(engine, unique=unique)
    assert second.id != first.id
    told = explain(await read(engine, first)).causes[-1]
    assert (told.code, told.details["holder"]) == ("unique_elsewhere", second.id)
    execute(oban_dsn, "update oban_jobs set state = 'available' where id = %s", first.id)
    facts = await read(engine, first)
    assert facts.holder == KeyHolder(second.id or 0, "available")
    assert explain(facts).causes[-1].code == "unique_lost"


async def code(engine: PostgresEngine, job: Job | int) -> str:
    return explain(await read(engine, job)).causes[0].code


async def test_what_the_errors_that_we_write_mean_is_known(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    """By their words, which stand in statements."""
    mine = producer()
    await engine.execute(engine.register(mine, 10.0))
    found: dict[str, str] = {}
    for name, max_attempts, max_crashes in (("suspect", 5, 1), ("last", 1, 5), ("old", 1, 5)):
        (job,) = await insert(engine, queue="mail", max_attempts=max_attempts)
        await engine.execute(engine.turn(mine, [], 1))
        found[f"{name} runs"] = await code(engine, job)
        if name == "old":
            moved = "update oban_jobs set attempted_at = attempted_at - interval '1 hour'"
            execute(oban_dsn, moved)
            await engine.execute(engine.rescue_old(60.0, 10))
        else:
            await engine.execute(engine.rescue([Sighting(mine, None, 10.0)], max_crashes, 10))
        found[name] = await code(engine, job)
    (row,) = execute(
        oban_dsn,
        "insert into oban_jobs (worker, queue, attempt, max_attempts) values ('w', 'mail', 2, 2) "
        "returning id",
    )
    found["none runs"] = await code(engine, row[0])
    await engine.execute(engine.stage(["mail"], 10))
    found["none"] = await code(engine, row[0])
    assert found == {
        "suspect runs": "node_silent",
        "suspect": "suspect",
        "last runs": "node_silent",
        "last": "rescued_exhausted",
        "old runs": "node_silent",
        "old": "rescued_exhausted",
        "none runs": "no_attempt_left",
        "none": "no_attempt_left",
    }


async def test_a_cancelled_job_whose_code_runs_is_being_stopped(engine: PostgresEngine) -> None:
    mine = producer()
    await beat(engine, mine)
    (job,) = await insert(engine, queue="mail")
    await engine.execute(engine.turn(mine, [], 1))
    await engine.execute(engine.cancel([job.id or 0]))
    facts = await read(engine, job)
    assert facts.stopping_at is not None
    assert [each.code for each in explain(facts).causes] == ["stopping", "cancelled"]


async def test_what_heartbeats_tell_of_a_run(engine: PostgresEngine, oban_dsn: str) -> None:
    mine = producer()
    await beat(engine, mine)
    (job, waiting) = await insert(engine, 2, queue="mail")
    await engine.execute(engine.turn(mine, [], 1))
    assert await code(engine, job) == "running"
    await beat(engine, mine, processed_at=9e9)
    assert await code(engine, job) == "not_begun"
    await beat(engine, mine, processed_at=9e9, running=[job.id])
    assert await code(engine, job) == "running"
    execute(oban_dsn, "update oban_producers set updated_at = updated_at - interval '1 hour'")
    silent, unmanned = [explain(await read(engine, each)) for each in (job, waiting)]
    assert silent.causes[0].code == "node_silent"
    assert "web-1 has been silent for 1 h" in silent.summary
    assert unmanned.causes[0].code == "no_node"
    assert "web-1, which did last, has been silent for 1 h" in unmanned.summary


HOSTILE: list[dict[str, str]] = [
    {"args": "[1, 2]"},
    {"args": '"text"', "meta": "[1]"},
    {"meta": '"text"'},
    {"meta": '{"uniq_key": 5, "weight": "heavy", "limits": 7}'},
    {"meta": '{"uniq_key": "' + "Z" * 32 + '", "weight": 1e300}'},
    {"meta": '{"uniq_key": "' + "a" * 31 + '", "limits": [1, {}, "a b", "api"]}'},
    {"meta": '{"uniq_lost": {"a": 1}, "deadline_at": [], "timeout": "1"}'},
    {"meta": '{"n": 1' + "0" * 5000 + "}"},
    {"priority": "30000"},
    {"scheduled_at": "infinity"},
    {"scheduled_at": "-infinity", "attempted_at": "infinity"},
    {"attempted_by": "{NULL}"},
    {"attempted_by": "{node,no-uuid}"},
    {"attempt": "20"},
    {"queue": "a'b\nc", "worker": "\x1b[31m"},
]


@pytest.mark.parametrize("columns", HOSTILE, ids=lambda columns: json.dumps(columns)[:60])
@pytest.mark.parametrize("state", ["available", "executing", "discarded"])
async def test_no_row_breaks_the_reading(
    engine: PostgresEngine, oban_dsn: str, columns: dict[str, str], state: str
) -> None:
    given = {"worker": "w", "state": state, **columns}
    names, places = ", ".join(given), ", ".join(["%s"] * len(given))
    statement = f"insert into oban_jobs ({names}) values ({places}) returning id"
    (row,) = execute(oban_dsn, statement, *given.values())
    await read(engine, row[0])


@pytest.mark.parametrize(
    "meta",
    [
        "[]",
        '{"limit": "x", "global_limit": 1e300, "rate_limit": [1]}',
        '{"global_limit": true, "rate_limit": {"allowed": -1, "period": 0}}',
    ],
)
async def test_no_producer_breaks_the_reading(
    engine: PostgresEngine, oban_dsn: str, meta: str
) -> None:
    mine = producer()
    await beat(engine, mine)
    execute(oban_dsn, "update oban_producers set meta = cast(%s as jsonb)", meta)
    (job,) = await insert(engine, queue="mail")
    assert (await read(engine, job)).runners
