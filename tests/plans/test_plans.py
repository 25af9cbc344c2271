"""The way of each hot statement to its jobs, whatever is known or thought of the table."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from tests.plans.history import FINISHED, PRODUCER, QUEUES, fill, install, run, running_attempts
from tests.plans.plan import Plan, PlanMode, explaining, plans

from oban.engines.browsing import JobSearch
from oban.engines.explain import MOST_AHEAD
from oban.engines.history import Keep
from oban.engines.metrics import MetricFilter
from oban.engines.nodes import Pulse, Report, Sighting
from oban.engines.postgres import PostgresEngine
from oban.engines.postgres.connections.session import PLAN_AGE
from oban.engines.postgres.statements import PREPARED, PostgresOperation, Statement
from oban.job import Job
from oban.limits import Partition, QueueLimits
from oban.outcome import Ack, AttemptKey
from oban.states import JobState

ENGINE = PostgresEngine("")
Building = Callable[[list[AttemptKey]], PostgresOperation[Any]]


def acks(attempts: list[AttemptKey]) -> list[Ack]:
    return [Ack(*key, JobState.COMPLETED) for key in attempts]


def report(attempts: list[AttemptKey]) -> Report:
    pulse = Pulse(PRODUCER, datetime.now(UTC), {"running": [], "processed_at": 9e9}, attempts)
    return Report("Oban", "node", [pulse], 10.0, PRODUCER.uuid, 6.0)


SILENT = [Sighting(PRODUCER, None, 10.0)]
LIMITS = QueueLimits(1_000)
WAITING = range(FINISHED + 21, FINISHED + 121)
KEPT = [Keep(None, state, 0.0, None) for state in ("completed", "cancelled", "discarded")]

#: What is done, the indexes that it must go by, and how many rows of jobs it may look at.
HOT: dict[str, tuple[Building, set[str], int]] = {
    "claim": (lambda _: ENGINE.turn(PRODUCER, [], 10), {"free"}, 20),
    # What it does within is the function's; see the plans of that below.
    "limited claim": (lambda _: ENGINE.turn(PRODUCER, [], 10, None, LIMITS), set(), 0),
    # It may read all that the queue has and sort: 4,000.
    "claim for many slots": (lambda _: ENGINE.turn(PRODUCER, [], 1000), {"free"}, 6000),
    "ack": (lambda mine: ENGINE.turn(PRODUCER, acks(mine[:50]), 0), {"pkey"}, 200),
    "ack and claim": (
        lambda mine: ENGINE.turn(PRODUCER, acks(mine[:50]), 10),
        {"free", "pkey"},
        220,
    ),
    "stage": (
        lambda _: ENGINE.stage(QUEUES, 20_000),
        {"due", "exhausted", "free", "pkey"},
        400,
    ),
    "give back": (lambda mine: ENGINE.give_back(PRODUCER, mine[:50]), {"running", "pkey"}, 200),
    "stopped": (lambda mine: ENGINE.stopped(PRODUCER, mine[:50]), {"pkey"}, 250),
    "forget": (lambda _: ENGINE.forget([PRODUCER.uuid]), {"running"}, 2),
    "beat": (lambda mine: ENGINE.beat(report(mine)), {"running"}, 250),
    "rescue": (lambda _: ENGINE.rescue(SILENT, 5, 1000), {"running", "pkey"}, 500),
    "prune by age": (lambda _: ENGINE.prune(KEPT, 100), {"completed", "pkey"}, 500),
    "prune by count": (
        lambda _: ENGINE.prune([Keep(None, "completed", 1e9, 1000)], 100),
        {"completed", "pkey"},
        1500,
    ),
    "get": (lambda _: ENGINE.get(range(1000, 1100)), {"pkey"}, 100),
    "cancel": (lambda _: ENGINE.cancel(WAITING), {"pkey"}, 200),
    "retry": (lambda _: ENGINE.retry(range(1000, 1100)), {"pkey"}, 200),
    "delete": (lambda _: ENGINE.delete(range(1000, 1100)), {"pkey"}, 200),
    "update": (lambda _: ENGINE.update(WAITING, lambda _: {}), {"pkey"}, 300),
}


@pytest.fixture(scope="module", params=["never analyzed", "analyzed", "analyzed while small"])
def large(
    request: pytest.FixtureRequest, create_database: Callable[[], str]
) -> Iterator[psycopg.Connection[Any]]:
    """The large table: just filled, well known, or taken for what it was before it was filled."""
    with psycopg.connect(create_database(), autocommit=True) as connection:
        install(connection)
        if request.param == "analyzed while small":
            run(connection, ENGINE.insert([Job(worker="Worker")] * 20))
            connection.execute("vacuum analyze oban_jobs")
        fill(connection)
        if request.param == "analyzed":
            connection.execute("analyze oban_jobs")
        yield connection


@pytest.fixture(scope="module")
def pages_before(create_database: Callable[[], str]) -> int:
    """Those that a claim touches where nothing has finished yet."""
    with psycopg.connect(create_database(), autocommit=True) as connection:
        install(connection)
        fill(connection, finished=0)
        return pages_of_a_claim(connection, "force_custom_plan")


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("doing", HOT)
def test_a_hot_statement_reads_what_it_is_about_and_nothing_else(
    large: psycopg.Connection[Any], doing: str, mode: PlanMode
) -> None:
    build, indexes, most_rows = HOT[doing]
    found = plans(large, build(running_attempts(large)), mode)
    for plan in found:
        assert plan.scans, plan
        assert plan.unguided == [], plan
        assert plan.compiled is False, plan
    assert {f"oban_jobs_{each}" for each in short(indexes)} <= set.union(
        *(plan.indexes for plan in found)
    ), found
    assert sum(plan.rows_read for plan in found) <= most_rows, found


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_counting_for_metrics_reads_what_has_ended_since_and_no_more(
    large: psycopg.Connection[Any], mode: PlanMode
) -> None:
    """Jobs end each millisecond: half a second of them is counted."""
    with large.transaction(force_rollback=True):
        large.execute(
            "insert into oban_metrics_mark (counted_to, hours_to, days_to, looked_at) "
            "select least(max(completed_at) at time zone 'UTC', now()) - interval '1 s', now(), "
            "now(), now() from oban_jobs"
        )
        found = plans(large, ENGINE.count(lambda outlook: outlook.counted_to + 0.5), mode)
    look, counting = found
    assert look.scans == []
    assert "Seq Scan" not in {node["Node Type"] for node in counting.scans}, counting
    assert counting.compiled is False, counting
    assert counting.rows_read <= 1_000, counting


#: A state whose jobs are browsed, the indexes that lead to them, and how many rows may be read.
BROWSED: dict[str | None, tuple[set[str], int]] = {
    None: ({"pkey"}, 100),
    "available": ({"free", "lane", "exhausted", "pkey"}, 600),
    "scheduled": ({"due", "pkey"}, 5_100),  # all of them: in their index are others as well
    "retryable": ({"due"}, 5_100),
    "executing": ({"running", "pkey"}, 600),
    "suspended": ({"suspended"}, 10),
    "completed": ({"completed", "pkey"}, 400),
    "cancelled": ({"cancelled", "pkey"}, 400),
    "discarded": ({"discarded", "pkey"}, 400),
}


@pytest.mark.parametrize("state", BROWSED)
def test_a_page_of_a_state_is_read_by_its_index_in_its_order(
    large: psycopg.Connection[Any], state: str | None
) -> None:
    """It is planned for what it is given: nothing of it is prepared."""
    indexes, most_rows = BROWSED[state]
    found = plans(large, ENGINE.browse(JobSearch(state=state), 30), "force_custom_plan")
    assert not any(plan.compiled for plan in found), found
    scans = [node["Node Type"] for plan in found for node in plan.scans]
    assert "Seq Scan" not in scans, found
    assert {f"oban_jobs_{each}" for each in short(indexes)} <= set.union(
        *(plan.indexes for plan in found)
    ), found
    assert sum(plan.rows_read for plan in found) <= most_rows, found


def test_arguments_that_are_large_are_not_even_read_for_a_list(
    large: psycopg.Connection[Any],
) -> None:
    with large.transaction(force_rollback=True):
        large.execute(
            "insert into oban_jobs (worker, args) select 'w', jsonb_build_object('text', ("
            "select string_agg(md5(cast(n as text)), '') from generate_series(1, 50000) as n))"
            "from generate_series(1, 3)"
        )
        *_, glance = plans(large, ENGINE.browse(JobSearch(), 3), "force_custom_plan")
    assert glance.statement == "glance"
    assert glance.pages <= 50, glance


def test_what_stands_beside_a_page_reads_few_jobs(large: psycopg.Connection[Any]) -> None:
    runs = ENGINE.last_runs(["a"], [5], 24, window=1_000)
    for building, most_rows in ((ENGINE.newest_id(), 1), (runs, 1_010)):
        found = plans(large, building, "force_custom_plan")
        assert "Seq Scan" not in [node["Node Type"] for plan in found for node in plan.scans], found
        assert sum(plan.rows_read for plan in found) <= most_rows, found
    newest = ENGINE.stats(["worker"], None, MetricFilter(), 10.0, newest=1_000)
    (_, grouping) = plans(large, newest, "force_custom_plan")
    assert grouping.rows_read <= 1_000, grouping


def short(indexes: set[str]) -> set[str]:
    return {each if each == "pkey" else f"{each}_index" for each in indexes}


@pytest.mark.parametrize(("queue", "most_rows"), [("q1", 4_500), ("deep", MOST_AHEAD + 100)])
def test_an_explanation_reads_the_jobs_before_it_to_a_bound(
    large: psycopg.Connection[Any], queue: str, most_rows: int
) -> None:
    """It is planned for what it is given: only sessions of our own have other plans."""
    last = (
        "select id from oban_jobs where state = 'available' and queue = %s and attempt = 0 "
        "order by priority desc, scheduled_at desc, id desc limit 1"
    )
    with large.transaction(force_rollback=True):
        run(large, ENGINE.beat(report([])))
        large.execute(DEEP)
        row = large.execute(last, [queue]).fetchone()
        assert row is not None
        found = plans(large, ENGINE.explain(row[0]), "force_custom_plan")
    for plan in found:
        # In that index stand only jobs that run and have limits to pass.
        assert {*plan.unguided} <= {"Index Only Scan oban_jobs_running_lane_index"}, plan
        assert plan.compiled is False, plan
    assert sum(plan.rows_read for plan in found) <= most_rows, found


DEEP = (
    "insert into oban_jobs (queue, worker) select 'deep', 'Worker' from generate_series(1, 50000)"
)


def test_an_explanation_of_a_job_that_does_not_wait_reads_next_to_nothing(
    large: psycopg.Connection[Any],
) -> None:
    run(large, ENGINE.beat(report([])))
    for state in ("completed", "discarded", "executing", "scheduled"):
        query = "select id from oban_jobs where state = cast(%s as oban_job_state) limit 1"
        row = large.execute(query, [state]).fetchone()
        assert row is not None
        found = plans(large, ENGINE.explain(row[0]), "force_custom_plan")
        for plan in found:
            assert plan.unguided == [], plan
        assert sum(plan.rows_read for plan in found) <= 700, found


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_a_backlog_is_counted_without_a_look_at_the_history(
    large: psycopg.Connection[Any], mode: PlanMode
) -> None:
    plan = plans(large, ENGINE.backlog(), mode)[-1]
    assert [each for each in plan.scans if each["Node Type"] == "Seq Scan"] == [], plan
    row = large.execute(
        b"select count(*) from oban_jobs where state not in ('completed', 'cancelled', 'discarded')"
    ).fetchone()
    assert row is not None
    # A job that is stopping stands in the index of those that run.
    assert plan.rows_read <= row[0] + 100, plan


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_a_claim_touches_as_few_pages_after_a_long_history_as_before_it(
    large: psycopg.Connection[Any], pages_before: int, mode: PlanMode
) -> None:
    assert pages_of_a_claim(large, mode) <= 2 * pages_before


def pages_of_a_claim(connection: psycopg.Connection[Any], mode: PlanMode) -> int:
    """The least of three: that a page of an index was full is no matter of the history."""
    tries = [plans(connection, ENGINE.turn(PRODUCER, [], 10), mode) for _ in range(3)]
    return min(plan.pages for (plan,) in tries)


@pytest.mark.parametrize("jobs_before", [0, 20])
@pytest.mark.own_session("nothing is prepared there")
async def test_a_plan_made_for_a_small_table_does_not_outlive_it(
    create_database: Callable[[], str], jobs_before: int
) -> None:
    """A node waits, its plans made, and then the jobs come by the hundred thousand."""
    engine = PostgresEngine(dsn := create_database())
    session = engine.session("oban test")
    with psycopg.connect(dsn, autocommit=True) as connection:
        install(connection)
        run(connection, engine.insert([Job(worker="Worker", queue="q1")] * jobs_before))
        connection.execute("vacuum analyze oban_jobs")
        for _ in range(15):  # until the driver prepares, and the server keeps the plan
            await session.execute(engine.turn(PRODUCER, [], 10))
        fill(connection, finished=50_000)
    assert session.planned_at is not None
    session.planned_at -= PLAN_AGE  # that much later
    await session.execute(engine.turn(PRODUCER, [], 10))
    assert session.connection is not None
    plan = await kept_plan(session.connection, next(engine.turn(PRODUCER, [], 10).steps()))
    await session.close()
    assert plan.unguided == [], plan
    assert plan.rows_read <= 20


async def kept_plan(connection: psycopg.AsyncConnection[Any], statement: Statement) -> Plan:
    """The plan that a driver's own prepared statement has by now."""
    query = "select name from pg_prepared_statements where statement = %s"
    rows = await connection.execute(query, [statement.sql.numbered], prepare=False)
    ((name,),) = await rows.fetchall()
    rows = await connection.execute(explaining(name, statement), prepare=False)
    return Plan(statement.sql.name, (await rows.fetchall())[0][0][0])


@pytest.mark.own_session("nothing is prepared there")
async def test_only_statements_that_read_no_history_are_prepared(
    create_database: Callable[[], str],
) -> None:
    """The others are planned for the table as it is; it may have grown since the last time."""
    engine = PostgresEngine(dsn := create_database())
    session = engine.session("oban test")
    with psycopg.connect(dsn, autocommit=True) as connection:
        install(connection)
        fill(connection, finished=1000)
        mine = running_attempts(connection)
    for build, *_ in HOT.values():
        for _ in range(10):
            await session.execute(build(mine))
    for _ in range(10):
        await session.execute(engine.insert([Job(worker="Worker")]))
        await session.execute(engine.insert([Job(worker="Worker")] * 2))
        await session.execute(engine.insert([Job(worker="Worker", unique=True)]))
    assert session.connection is not None
    rows = await session.connection.execute("select statement from pg_prepared_statements")
    prepared = {text for (text,) in await rows.fetchall()}
    await session.close()
    blocks = engine.sql.blocks
    assert prepared == {blocks[name].numbered for name in PREPARED}


def test_a_jobs_life_is_few_changes_of_rows_and_index_entries(
    large: psycopg.Connection[Any],
) -> None:
    """An insert and two entries; then twice a lock, a new version of the row and three entries."""
    jobs = [Job(worker="Worker", queue="q1") for _ in range(100)]
    (inserted,) = plans(large, ENGINE.insert(jobs), "force_generic_plan")
    (claimed,) = plans(large, ENGINE.turn(PRODUCER, [], 100), "force_generic_plan")
    mine = acks(running_attempts(large)[:100])
    (ended,) = plans(large, ENGINE.turn(PRODUCER, mine, 0), "force_generic_plan")
    assert inserted.log_records / 100 <= 4
    assert claimed.log_records / 100 <= 6
    assert ended.log_records / len(mine) <= 6


async def test_a_limited_claim_reads_few_jobs_however_many_wait_for_a_full_partition(
    create_database: Callable[[], str],
) -> None:
    engine = PostgresEngine(dsn := create_database())
    partition = Partition.parse("partition", {"by": {"args": "tenant"}})
    limits = QueueLimits(2, partition=partition)
    with psycopg.connect(dsn, autocommit=True) as connection:
        install(connection)
    await engine.execute(engine.register(PRODUCER, 60.0))
    opening = engine.open_limits("q1", partition, {}, overrule=True)
    await engine.execute(opening)
    tenants = ["full"] * 20_000 + ["other"] * 2
    await engine.execute(
        engine.insert([Job(worker="w", queue="q1", args={"tenant": each}) for each in tenants])
    )
    await engine.close()
    with psycopg.connect(dsn) as connection:
        for wanted in (4, 0):
            turn = next(engine.turn(PRODUCER, [], 100, None, limits).steps())
            cursor = psycopg.RawCursor(connection)
            rows = cursor.execute(turn.sql.numbered.encode(), turn.values).fetchall()
            assert len(rows) - 1 == wanted
        query = "select coalesce(idx_tup_fetch, 0) + seq_tup_read from pg_stat_xact_user_tables"
        ((read,),) = connection.execute(f"{query} where relname = 'oban_jobs'").fetchall()
    assert read < 100


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("count", [5_000, 20_000])
def test_a_turn_reads_no_whole_table_however_small(
    create_database: Callable[[], str], count: int, mode: PlanMode
) -> None:
    with psycopg.connect(create_database(), autocommit=True) as connection:
        install(connection)
        for _ in range(count // 1_000):
            run(connection, ENGINE.insert([Job(worker="Worker", queue="q1")] * 1_000))
        for limits in (None, LIMITS):
            for plan in plans(connection, ENGINE.turn(PRODUCER, [], 10, None, limits), mode):
                assert plan.unguided == [], plan
