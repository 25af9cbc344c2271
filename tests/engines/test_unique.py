"""Unique jobs on each kind of tables: one of a key, whoever inserts, moves or deletes."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import IsolationLevel
from tests.roads import direct

from oban import Job, JobState
from oban.engines.postgres import PostgresEngine
from oban.engines.runs import ProducerIdentity
from oban.errors import UniqueKeyBusy
from oban.outcome import Ack
from oban.unique import Unique

WAITING = ["available", "scheduled", "retryable", "suspended"]


def job(options: object = True, *, n: int = 1, **fields: Any) -> Job:
    return Job(**{"worker": "app.Mailer", "args": {"n": n}, **fields}, unique=options)  # type: ignore[arg-type]


async def insert(engine: PostgresEngine, *jobs: Job, conn: object = None) -> list[Job]:
    return await engine.execute(engine.insert(jobs), conn)


async def one(engine: PostgresEngine, options: object = True, **fields: Any) -> Job:
    (found,) = await insert(engine, job(options, **fields))
    return found


async def get(engine: PostgresEngine, each: Job) -> Job:
    assert each.id is not None
    (found,) = await engine.execute(engine.get([each.id]))
    return found


def execute(dsn: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(direct(dsn), autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []


def put_into(dsn: str, each: Job, state: str) -> None:
    """As an operator would, or another package."""
    execute(dsn, "update oban_jobs set state = cast(%s as oban_job_state)", state)
    assert each.id is not None


@pytest.fixture
async def producer(engine: PostgresEngine) -> ProducerIdentity:
    producer = ProducerIdentity(str(uuid4()), "Oban", "node-1", "default")
    await engine.execute(engine.register(producer, 60.0))
    return producer


async def claim(engine: PostgresEngine, producer: ProducerIdentity) -> Job:
    (claimed,) = (await engine.execute(engine.turn(producer, [], 1))).claimed
    return claimed


async def acknowledge(
    engine: PostgresEngine, producer: ProducerIdentity, claimed: Job, state: str, **details: Any
) -> None:
    assert claimed.id is not None
    ack = Ack(claimed.id, claimed.attempt, JobState(state), **details)
    turn = await engine.execute(engine.turn(producer, [ack], 0))
    assert turn.acknowledged == {claimed.id}


async def test_the_second_of_a_kind_is_the_first(engine: PostgresEngine) -> None:
    first = await one(engine)
    assert not first.conflicted
    assert first.meta["uniq"] is True
    assert first.meta["uniq_bmp"] == [0, 1, 2, 3, 4, 7]
    assert len(first.meta["uniq_key"]) == 32
    assert await get(engine, first) == first
    second = await one(engine)
    assert second.conflicted
    assert second == first
    assert not (await one(engine, n=2)).conflicted
    assert not (await one(engine, queue="other")).conflicted


@pytest.mark.parametrize("group", ["all", "incomplete", "scheduled", "successful"])
@pytest.mark.parametrize("state", list(JobState))
async def test_only_jobs_in_the_states_asked_for_count(
    engine: PostgresEngine, oban_dsn: str, group: str, state: JobState
) -> None:
    first = await one(engine, {"group": group})
    put_into(oban_dsn, first, state)
    second = await one(engine, {"group": group})
    counts = {
        "all": True,
        "incomplete": state not in ("completed", "cancelled", "discarded"),
        "scheduled": state == "scheduled",
        "successful": state not in ("cancelled", "discarded"),
    }
    assert second.conflicted is counts[group]
    assert (second.id == first.id) is counts[group]


async def test_a_job_whose_code_is_being_stopped_counts_as_one_that_runs(
    engine: PostgresEngine, producer: ProducerIdentity, oban_dsn: str
) -> None:
    first = await one(engine, {"group": "incomplete"})
    await claim(engine, producer)
    assert await engine.execute(engine.cancel([first.id or 0])) == [first.id]
    assert (await one(engine, {"group": "incomplete"})).conflicted
    execute(oban_dsn, "update oban_jobs set stopping_at = null")
    assert not (await one(engine, {"group": "incomplete"})).conflicted


@pytest.mark.parametrize("timestamp", ["inserted_at", "scheduled_at"])
async def test_a_period_slides_with_the_job_and_ends_to_the_second(
    engine: PostgresEngine, oban_dsn: str, timestamp: str
) -> None:
    options = {"period": 60, "timestamp": timestamp}
    first = await one(engine, options)
    assert (await one(engine, options)).conflicted
    back = f"update oban_jobs set {timestamp} = {timestamp} - interval '1 second' * %s"
    execute(oban_dsn, back, 58)
    assert (await one(engine, options)).id == first.id
    execute(oban_dsn, back, 2.1)
    second = await one(engine, options)
    assert not second.conflicted
    assert (await one(engine, options)).id == second.id
    assert (await one(engine, {"period": timedelta(days=1)})).id == second.id


async def test_of_several_alike_in_one_insert_the_first_is_inserted(engine: PostgresEngine) -> None:
    await one(engine, n=0)
    jobs = await insert(
        engine, *(job(n=n % 3) for n in range(9)), Job(worker="plain"), Job(worker="plain")
    )
    assert [each.conflicted for each in jobs] == [True, False, False] + 6 * [True] + 2 * [False]
    assert len({each.id for each in jobs}) == 5
    assert [each.args.get("n") for each in jobs[:9]] == 3 * [0, 1, 2]
    assert await engine.execute(engine.pour([job(n=n) for n in range(5)])) == 2


async def test_kinds_of_uniqueness_may_be_mixed_in_one_insert(engine: PostgresEngine) -> None:
    every = job({"group": "all", "fields": ["worker"]}, worker="a")
    some = job({"period": 5, "states": ["available"], "timestamp": "scheduled_at"}, worker="b")
    stored = await insert(engine, every, some, job(worker="c"), every)
    assert [each.meta["uniq_bmp"] for each in stored[:3]] == [
        list(range(8)),
        [1],
        [0, 1, 2, 3, 4, 7],
    ]
    assert [each.conflicted for each in stored] == [False, False, False, True]


@pytest.mark.parametrize("state", WAITING)
async def test_what_is_asked_for_is_replaced_in_the_state_it_is_asked_for(
    engine: PostgresEngine, oban_dsn: str, state: str
) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    options = {"keys": ["n"], "replace": {state: ["args", "schedule", "priority", "tags"]}}
    first = await one(engine, options, max_attempts=3)
    put_into(oban_dsn, first, state)
    new = {"args": {"n": 1, "x": 2}, "priority": 5, "tags": ["t"], "scheduled_at": later}
    replaced = await one(engine, options, **new, max_attempts=7)
    assert replaced.conflicted
    assert replaced.id == first.id
    found = await get(engine, first)
    assert found == replaced
    assert (found.args, found.priority, found.tags) == ({"n": 1, "x": 2}, 5, ["t"])
    assert found.max_attempts == 3
    assert found.scheduled_at == later
    assert found.state == ("scheduled" if state in ("available", "scheduled") else state)


async def test_nothing_is_replaced_in_another_state(engine: PostgresEngine, oban_dsn: str) -> None:
    options = {"keys": ["n"], "replace": {"scheduled": ["args"]}}
    first = await one(engine, options)
    again = await one(engine, options, args={"n": 1, "x": 2})
    assert again.args == first.args == {"n": 1}


async def test_the_last_of_several_alike_replaces(engine: PostgresEngine) -> None:
    options = {"keys": ["n"], "replace": {"available": ["args", "max_attempts", "queue", "meta"]}}
    jobs = [job(options, args={"n": 1, "x": x}, meta={"x": x}) for x in range(4)]
    stored = await insert(engine, *jobs)
    assert [each.conflicted for each in stored] == [False, True, True, True]
    found = await get(engine, stored[0])
    assert found.args["x"] == found.meta["x"] == 3
    assert found.meta["uniq_key"] == stored[0].meta["uniq_key"]


async def test_in_a_transaction_it_is_taken_and_given_back_with_it(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    async with await psycopg.AsyncConnection.connect(oban_dsn) as connection:
        (first,) = await insert(engine, job(), conn=connection)
        (second,) = await insert(engine, job(), conn=connection)
        assert second.id == first.id
        assert second.conflicted
        await connection.rollback()
        (third,) = await insert(engine, job(), conn=connection)
        assert not third.conflicted
    assert (await one(engine)).id == third.id


@pytest.mark.parametrize("ending", ["commit", "rollback"])
async def test_a_second_writer_of_a_key_waits_for_the_first_and_nobody_else_does(
    engine: PostgresEngine, oban_dsn: str, ending: str
) -> None:
    async with await psycopg.AsyncConnection.connect(oban_dsn) as connection:
        (first,) = await insert(engine, job(), conn=connection)
        waiting = asyncio.create_task(one(engine))
        assert not (await one(engine, n=2)).conflicted
        assert not waiting.done()
        await (connection.commit() if ending == "commit" else connection.rollback())
        second = await waiting
    assert second.conflicted is (ending == "commit")
    assert (second.id == first.id) is (ending == "commit")


@pytest.mark.own_session("a pooler takes no options of a session")
async def test_who_waits_in_vain_is_told_for_which_key(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    unique = Unique.parse(True)
    assert unique is not None
    key = unique.key(job())
    impatient = PostgresEngine(f"{oban_dsn} options='-c lock_timeout=50'")
    async with await psycopg.AsyncConnection.connect(oban_dsn) as connection:
        await insert(engine, job(), conn=connection)
        with pytest.raises(UniqueKeyBusy, match=f"unique key {key} of app.Mailer"):
            await one(impatient)
        async with await psycopg.AsyncConnection.connect(oban_dsn) as other:
            await other.execute("set lock_timeout = 50")
            with pytest.raises(psycopg.errors.LockNotAvailable) as raised:
                await insert(engine, job(), conn=other)
        assert any(key in note for note in raised.value.__notes__)
        await connection.rollback()
    await impatient.close()


@pytest.mark.parametrize("level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])
async def test_with_a_snapshot_of_its_own_a_transaction_fails_and_may_be_retried(
    engine: PostgresEngine, oban_dsn: str, level: IsolationLevel
) -> None:
    async with await psycopg.AsyncConnection.connect(oban_dsn) as connection:
        await connection.set_isolation_level(level)
        await connection.execute("select 1")
        first = await one(engine)
        with pytest.raises(psycopg.errors.SerializationFailure):
            await insert(engine, job(), conn=connection)
        await connection.rollback()
        assert [each.id for each in await insert(engine, job(), conn=connection)] == [first.id]


async def test_a_retry_leaves_alone_what_has_a_like_meanwhile(engine: PostgresEngine) -> None:
    first = await one(engine)
    assert await engine.execute(engine.cancel([first.id or 0]))
    second = await one(engine)
    (plain,) = await insert(engine, Job(worker="plain"))
    await engine.execute(engine.cancel([plain.id or 0]))
    ids = [first.id or 0, plain.id or 0]
    retried = await engine.execute(engine.retry(ids))
    assert retried.ids == [plain.id]
    assert retried.conflicted == [first.id]
    assert (await get(engine, first)).state == "cancelled"
    assert await engine.execute(engine.delete([second.id or 0])) == [second.id]
    assert (await engine.execute(engine.retry(ids))).ids == [first.id]
    assert (await one(engine)).id == first.id


async def test_of_several_alike_one_is_retried(engine: PostgresEngine) -> None:
    made = []
    for _ in range(3):
        made.append(await one(engine))
        await engine.execute(engine.cancel([made[-1].id or 0]))
    retried = await engine.execute(engine.retry([each.id or 0 for each in made]))
    assert retried.ids == [made[-1].id]
    assert retried.conflicted == [each.id for each in made[:-1]]


async def test_an_ack_into_a_state_that_counts_goes_on_without_the_key(
    engine: PostgresEngine, producer: ProducerIdentity, oban_dsn: str
) -> None:
    """One waits at most, while another runs: then the one that runs is to wait again."""
    options = {"states": WAITING}
    first = await one(engine, options)
    claimed = await claim(engine, producer)
    second = await one(engine, options)
    assert not second.conflicted
    with psycopg.connect(direct(oban_dsn), autocommit=True) as listening:
        listening.execute('listen "public.oban_control"')
        await acknowledge(engine, producer, claimed, "retryable", delay=60.0)
        heard = [each.payload for each in listening.notifies(timeout=5, stop_after=1)]
    assert heard == [f'{{"unique_lost" : {first.id}}}']
    found = await get(engine, first)
    assert found.state == "retryable"
    assert found.meta == {"uniq_lost": first.meta["uniq_key"]}
    assert (await one(engine, options)).id == second.id


async def test_an_ack_into_a_state_that_counts_takes_a_key_that_is_free(
    engine: PostgresEngine, producer: ProducerIdentity
) -> None:
    options = {"states": WAITING}
    first = await one(engine, options)
    await acknowledge(engine, producer, await claim(engine, producer), "retryable", delay=60.0)
    assert (await get(engine, first)).meta["uniq"] is True
    assert (await one(engine, options)).id == first.id


async def test_a_move_never_waits_for_a_transaction_that_has_the_key(
    engine: PostgresEngine, producer: ProducerIdentity, oban_dsn: str
) -> None:
    options = {"states": WAITING}
    first = await one(engine, options)
    claimed = await claim(engine, producer)
    async with await psycopg.AsyncConnection.connect(oban_dsn) as connection:
        await insert(engine, job(options), conn=connection)
        async with asyncio.timeout(5):
            await acknowledge(engine, producer, claimed, "retryable", delay=60.0)
        await connection.rollback()
    assert "uniq_lost" in (await get(engine, first)).meta


async def test_staging_goes_on_with_what_is_beside_a_conflict(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    options = {"states": ["available", "executing"]}
    later = datetime.now(UTC) + timedelta(hours=1)
    scheduled = [await one(engine, options, n=n, scheduled_at=later) for n in range(3)]
    await one(engine, options, n=1)
    execute(
        oban_dsn,
        "update oban_jobs set scheduled_at = timezone('UTC', now()) where state = 'scheduled'",
    )
    assert (await engine.execute(engine.stage(["default"], 100))).staged_count == 3
    lost = ["uniq_lost" in (await get(engine, each)).meta for each in scheduled]
    assert lost == [False, True, False]


async def test_what_is_deleted_holds_no_key(engine: PostgresEngine, oban_dsn: str) -> None:
    jobs = await insert(engine, *(job(n=n) for n in range(4)))
    assert execute(oban_dsn, "select count(*) from oban_unique") == [(4,)]
    await engine.execute(engine.delete([jobs[0].id or 0]))
    execute(oban_dsn, "delete from oban_jobs where id = %s", jobs[1].id)
    assert execute(oban_dsn, "select count(*) from oban_unique") == [(2,)]
    assert not (await one(engine, n=0)).conflicted


@pytest.mark.parametrize("meta", ['{"uniq_key": 5, "uniq_bmp": [1]}', '{"uniq_key": "x"}', "[]"])
async def test_what_others_write_into_meta_stops_nobody(
    engine: PostgresEngine, producer: ProducerIdentity, oban_dsn: str, meta: str
) -> None:
    execute(oban_dsn, "insert into oban_jobs (worker, meta) values ('w', %s)", meta)
    claimed = await claim(engine, producer)
    await acknowledge(engine, producer, claimed, "cancelled")
    assert (await engine.execute(engine.retry([claimed.id or 0]))).ids == [claimed.id]
    assert await engine.execute(engine.delete([claimed.id or 0])) == [claimed.id]


async def test_many_writers_of_few_keys_insert_one_of_each(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    async def write(start: int) -> Sequence[Job]:
        single = [await one(engine, n=(start + n) % 20) for n in range(20)]
        return single + await insert(engine, *(job(n=(start - n) % 40) for n in range(40)))

    stored = [each for many in await asyncio.gather(*map(write, range(10))) for each in many]
    assert len([each for each in stored if not each.conflicted]) == 40
    assert execute(oban_dsn, "select count(*) from oban_jobs") == [(40,)]
    by_key: dict[int, set[int | None]] = {}
    for each in stored:
        by_key.setdefault(each.args["n"], set()).add(each.id)
    assert all(len(ids) == 1 for ids in by_key.values())


async def test_keys_that_a_transaction_holds_stop_no_staging(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    options = {"states": ["available", "executing"]}
    later = datetime.now(UTC) + timedelta(hours=1)
    await insert(engine, *(job(options, n=n, scheduled_at=later) for n in range(200)))
    await insert(engine, Job(worker="plain", scheduled_at=later))
    async with await psycopg.AsyncConnection.connect(oban_dsn) as connection:
        await insert(engine, *(job(options, n=n) for n in range(200)), conn=connection)
        execute(
            oban_dsn,
            "update oban_jobs set scheduled_at = timezone('UTC', now()) where state = 'scheduled'",
        )
        began = time.monotonic()
        assert (await engine.execute(engine.stage(["default"], 1000))).staged_count == 201
        assert time.monotonic() - began < 3
        await connection.rollback()


async def test_keys_that_are_just_being_made_are_waited_for_a_few_times_only(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    options = {"states": ["available", "executing"]}
    later = datetime.now(UTC) + timedelta(hours=1)
    await insert(engine, *(job(options, n=n, scheduled_at=later) for n in range(200)))
    execute(oban_dsn, "delete from oban_unique")
    async with await psycopg.AsyncConnection.connect(oban_dsn) as connection:
        await insert(engine, *(job(options, n=n) for n in range(200)), conn=connection)
        execute(
            oban_dsn,
            "update oban_jobs set scheduled_at = timezone('UTC', now()) where state = 'scheduled'",
        )
        began = time.monotonic()
        assert (await engine.execute(engine.stage(["default"], 1000))).staged_count == 200
        assert time.monotonic() - began < 3
        await connection.rollback()


async def test_jobs_that_do_not_count_keep_nobody_out_however_many_there_are(
    engine: PostgresEngine,
) -> None:
    options = {"group": "scheduled"}
    jobs = await insert(engine, *(job(options) for _ in range(50)))
    assert not any(each.conflicted for each in jobs)
    assert await engine.execute(engine.pour([job(options) for _ in range(50)])) == 50
    later = datetime.now(UTC) + timedelta(hours=1)
    mixed = [job(options), job(options, scheduled_at=later), job(options)]
    stored = await insert(engine, *mixed)
    assert [each.conflicted for each in stored] == [False, False, True]
    assert stored[2].id == stored[1].id
    assert [each.conflicted for each in await insert(engine, *mixed)] == 3 * [True]


async def test_a_job_of_the_same_id_is_no_like(engine: PostgresEngine, oban_dsn: str) -> None:
    options = {"keys": ["n"], "replace": {"available": ["args"]}}
    first = await one(engine, options)
    execute(oban_dsn, "alter table oban_jobs disable trigger user")
    execute(oban_dsn, "delete from oban_jobs")
    execute(oban_dsn, "alter table oban_jobs enable trigger user")
    execute(oban_dsn, "insert into oban_jobs (id, worker) values (%s, 'other')", first.id)
    second = await one(engine, options)
    assert not second.conflicted
    assert second.id != first.id
    assert execute(oban_dsn, "select args from oban_jobs where worker = 'other'") == [({},)]


async def test_an_emptied_table_holds_no_key(engine: PostgresEngine, oban_dsn: str) -> None:
    await one(engine)
    execute(oban_dsn, "truncate oban_jobs restart identity")
    assert execute(oban_dsn, "select count(*) from oban_unique") == [(0,)]
    assert not (await one(engine)).conflicted


async def test_an_update_of_meta_leaves_the_job_unique(engine: PostgresEngine) -> None:
    first = await one(engine)
    (changed,) = await engine.execute(engine.update([first.id or 0], lambda _: {"meta": {"a": 1}}))
    assert changed.meta == {**first.meta, "a": 1}
    assert (await one(engine)).id == first.id


async def test_what_was_enqueued_stays_unique_and_a_copy_of_its_meta_makes_nothing_so(
    engine: PostgresEngine,
) -> None:
    first = await one(engine)
    for again in (first, await one(engine)):
        (found,) = await insert(engine, again)
        assert found.id == first.id
        assert found.conflicted
    for copies in (1, 2):
        stored = await insert(engine, *(Job(worker="plain", meta=first.meta),) * copies)
        assert [each.meta for each in stored] == [{}] * copies


async def test_a_retry_heeds_the_period_of_the_job_that_has_its_key(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    first = await one(engine, {"period": 60})
    await engine.execute(engine.cancel([first.id or 0]))
    second = await one(engine, {"period": 60})
    assert (await engine.execute(engine.retry([first.id or 0]))).conflicted == [first.id]
    execute(
        oban_dsn,
        "update oban_jobs set inserted_at = inserted_at - interval '2 minutes' where id = %s",
        second.id,
    )
    assert (await engine.execute(engine.retry([first.id or 0]))).ids == [first.id]


async def test_over_a_connection_of_ours_a_key_is_not_waited_for_without_end(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    async with await psycopg.AsyncConnection.connect(oban_dsn) as connection:
        await insert(engine, job(), conn=connection)
        with pytest.raises(UniqueKeyBusy, match=r"of app\.Mailer"):
            await engine.execute(engine.insert([job()], patience=0.05))
        with pytest.raises(UniqueKeyBusy, match="one of the unique keys"):
            await engine.execute(engine.insert([job(n=n) for n in range(3)], patience=0.05))
        await connection.rollback()
    assert not (await one(engine)).conflicted


async def test_nobody_else_may_use_what_the_triggers_do(
    engine: PostgresEngine, oban_dsn: str
) -> None:
    await one(engine)
    role = f"stranger_{uuid4().hex[:8]}"
    execute(oban_dsn, f"create role {role}")
    try:
        for function in ("enter", "leave", "empty"):
            ((may,),) = execute(
                oban_dsn,
                "select has_function_privilege(%s, %s, 'execute')",
                role,
                f"oban_unique_{function}()",
            )
            assert not may
        # Nor does its owner do harm by putting one on another table.
        execute(
            oban_dsn,
            "create table copied (id bigint, state oban_job_state, meta jsonb)",
        )
        execute(
            oban_dsn,
            "create trigger copied after delete on copied for each row "
            "execute function oban_unique_leave()",
        )
        execute(oban_dsn, "insert into copied select id, state, meta from oban_jobs")
        execute(oban_dsn, "delete from copied")
        assert execute(oban_dsn, "select count(*) from oban_unique") == [(1,)]
    finally:
        execute(oban_dsn, "drop table if exists copied")
        execute(oban_dsn, f"drop role {role}")
