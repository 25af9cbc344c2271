"""What has ended is counted once, and kept in bounded space; sketches can be added."""

import asyncio
import random
import time
from collections import Counter as Counts
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from oban.engines.history import Keep
from oban.engines.metrics import Counted, MetricFilter, Outlook, Times
from oban.engines.postgres import PostgresEngine
from oban.engines.postgres.metrics import MOST_ROWS
from oban.errors import TooSlow
from oban.metrics import KEPT, Scale, Series, path_of
from oban.running.horizon import MARGIN, Horizon
from oban.sketch import RELATIVE_ERROR, bin_of

Connection = psycopg.Connection[Any]
ALL = MetricFilter()
ENDED = {state: f"{state}_at" for state in ("completed", "cancelled", "discarded")}


@pytest.fixture
def table(oban_dsn: str) -> Iterator[Connection]:
    with psycopg.connect(oban_dsn, autocommit=True, prepare_threshold=None) as connection:
        yield connection


def finish(table: Connection, count: int = 1, *, ago: float = 60, **columns: Any) -> None:
    """Have jobs that ended so many seconds ago."""
    state = columns.pop("state", "completed")
    given = {"queue": "q", "worker": "w", "attempted_by": ["node", "uuid"], **columns}
    table.execute(
        f"insert into oban_jobs (state, {ENDED[state]}, {', '.join(given)}) "
        f"select %s::oban_job_state, timezone('UTC', clock_timestamp()) - %s * interval '1 s', "
        f"{', '.join(['%s'] * len(given))} from generate_series(1, %s)".encode(),
        [state, ago, *given.values(), count],
    )


def now(outlook: Outlook) -> float:
    return outlook.at


async def count(engine: PostgresEngine, until: Callable[[Outlook], float] = now) -> Counted:
    return await engine.execute(engine.count(until))


def counted(table: Connection, grain: str = "minute") -> dict[tuple[str, ...], int]:
    """By queue, worker, node and state."""
    rows = table.execute(
        "select queue, worker, node, state, sum(finished)::int from oban_metrics "
        "where grain = %s group by 1, 2, 3, 4",
        [grain],
    ).fetchall()
    return {tuple(key): number for *key, number in rows if number}


async def test_jobs_that_ended_are_counted_by_queue_worker_node_and_state(
    engine: PostgresEngine, table: Connection
) -> None:
    finish(table, 3)
    finish(table, 2, state="discarded", worker="other")
    finish(table, state="cancelled", attempted_by=[], queue="never ran")
    table.execute("insert into oban_jobs (queue, worker) values ('q', 'w')")
    assert (await count(engine)).finished == 6
    assert counted(table) == {
        ("q", "w", "node", "completed"): 3,
        ("q", "other", "node", "discarded"): 2,
        ("never ran", "w", "", "cancelled"): 1,
    }


async def test_each_is_counted_once(engine: PostgresEngine, table: Connection) -> None:
    finish(table, 5)
    operation = engine.count(now)
    first = await engine.execute(operation)
    again = await engine.execute(operation)
    assert (first.finished, again.finished) == (5, 0)
    assert again.counted_to > first.counted_to
    assert (await count(engine, lambda outlook: outlook.at - 3_600)).finished == 0
    assert sum(counted(table).values()) == 5


async def test_of_several_leaders_each_job_is_counted_by_one(
    engine: PostgresEngine, table: Connection
) -> None:
    """They count step by step, each as far as it thinks, while more jobs end."""
    for ago in range(1, 200):
        finish(table, 3, ago=ago)

    async def lead(seed: int) -> int:
        chance = random.Random(seed)

        def until(outlook: Outlook) -> float:
            return min(outlook.at, outlook.counted_to + chance.choice([5.0, 17.0, 60.0]))

        return sum([(await count(engine, until)).finished for _ in range(20)])

    await count(engine, lambda outlook: outlook.at - 250)
    found = await asyncio.gather(*(lead(seed) for seed in range(4)))
    found.append((await count(engine)).finished)
    assert sum(found) == 3 * 199 == sum(counted(table).values())


@pytest.mark.own_session("a transaction is left open")
@pytest.mark.parametrize("kind", ["own"], indirect=True)  # its tables are ours in all kinds
async def test_a_job_whose_transaction_ends_late_is_counted_all_the_same(
    engine: PostgresEngine, table: Connection, oban_dsn: str
) -> None:
    horizon, looked = Horizon(), []

    def until(outlook: Outlook) -> float:
        found = horizon.look(outlook.at, outlook.writers)
        looked.append((outlook, found))
        return found

    await count(engine, until)
    table.execute("insert into oban_jobs (queue, worker, state) values ('q', 'w', 'executing')")
    with psycopg.connect(oban_dsn) as late:
        late.execute(
            "update oban_jobs set state = 'completed', attempted_by = '{node,uuid}', "
            "completed_at = timezone('UTC', statement_timestamp())"
        )
        for _ in range(3):
            finish(table, ago=0)  # the others end meanwhile
            await asyncio.sleep(MARGIN)
            before = await count(engine, until)
            outlook, found = looked[-1]
            assert outlook.writers
            assert found < outlook.at - MARGIN
            assert before.counted_to < outlook.at - MARGIN
        late.commit()
    await asyncio.sleep(MARGIN)
    await count(engine, until)
    assert counted(table) == {("q", "w", "node", "completed"): 4}


@pytest.mark.own_session("a statement waits for a lock")
async def test_so_is_one_whose_statement_waits_and_has_no_transaction_number_yet(
    engine: PostgresEngine, table: Connection, oban_dsn: str
) -> None:
    horizon = Horizon()

    def until(outlook: Outlook) -> float:
        return horizon.look(outlook.at, outlook.writers)

    table.execute("insert into oban_jobs (queue, worker, state) values ('q', 'w', 'executing')")
    await count(engine, until)

    def complete() -> None:
        with psycopg.connect(oban_dsn, autocommit=True) as waiting:
            waiting.execute(
                "update oban_jobs set state = 'completed', "
                "completed_at = timezone('UTC', statement_timestamp())"
            )

    with psycopg.connect(oban_dsn) as holder:
        holder.execute("select from oban_jobs for update")
        work = asyncio.create_task(asyncio.to_thread(complete))
        for _ in range(3):
            await asyncio.sleep(MARGIN / 2)
            await count(engine, until)
        holder.rollback()
    await work
    await asyncio.sleep(MARGIN)
    await count(engine, until)
    assert sum(counted(table).values()) == 1


@pytest.mark.parametrize("kind", ["own"], indirect=True)  # its tables are ours in all kinds
async def test_a_clock_that_is_set_back_neither_loses_nor_doubles_a_count(
    engine: PostgresEngine, table: Connection
) -> None:
    """It was two hours ahead, for long enough that an hour was made of the minutes in it."""
    times = Times("q", "w", "completed", {7: 1}, {7: 1})
    await engine.execute(engine.add_times("node", [times]))
    await count(engine, lambda outlook: outlook.at - 3_600)
    for ago in (600, 0, -60, -3_600, -7_100):
        finish(table, ago=ago)
    assert (await count(engine, lambda outlook: outlook.at + 7_200)).finished == 5
    table.execute("update oban_metrics_mark set hours_to = date_trunc('hour', now())")
    while (await engine.execute(engine.tend_metrics())) is True:
        pass
    await count(engine)
    finish(table, ago=0)
    await count(engine)
    assert sum(counted(table).values()) == 3
    assert (await count(engine, lambda outlook: outlook.at + 7_200)).finished == 3
    assert counted(table) == {("q", "w", "node", "completed"): 6}
    scale = Scale.of(3_600)
    found = await engine.execute(engine.metrics("state", scale, ALL))
    assert sum(point.exec.count for each in found for point in each.points if point.exec) == 1


async def test_a_long_history_is_not_counted_at_the_first_start(
    engine: PostgresEngine, table: Connection
) -> None:
    finish(table, 7, ago=KEPT["minute"] + 60)
    finish(table, 2, ago=KEPT["minute"] - 60)
    await count(engine)
    assert sum(counted(table).values()) == 2


async def test_what_is_not_counted_is_not_pruned_for_ten_minutes_while_somebody_counts(
    engine: PostgresEngine, table: Connection
) -> None:
    table.execute("insert into oban_owned_queues (queue) values ('q') on conflict do nothing")
    rules = [Keep(None, state, 0.0, None) for state in ENDED]

    async def prune() -> int:
        return await engine.execute(engine.prune(rules, 1_000))

    await count(engine, lambda outlook: outlook.at - 3_600)
    for state in ENDED:
        finish(table, ago=700, state=state)
        finish(table, ago=500, state=state)
    assert await prune() == 3
    assert await prune() == 0
    await count(engine)
    assert await prune() == 3
    finish(table)
    assert await prune() == 1  # it ended before what is counted
    finish(table, ago=0)
    assert await prune() == 0
    table.execute("update oban_metrics_mark set looked_at = looked_at - interval '11 minutes'")
    assert await prune() == 1


def travel_a_day(table: Connection) -> None:
    """Let a day pass, as far as metrics are concerned."""
    for far in ("-1001 days", "1000 days"):  # in two steps: none takes the place of another
        table.execute(f"update oban_metrics set at = at + interval '{far}'".encode())
    moved = [
        f"{each} = {each} - interval '1 day'" for each in ("counted_to", "hours_to", "days_to")
    ]
    table.execute(f"update oban_metrics_mark set {', '.join(moved)}".encode())


#: What the nodes of each hour of a day tell: each runs two jobs in either of two minutes.
A_DAY = """
insert into oban_metrics (grain, at, queue, worker, node, state, finished, exec, wait)
select
  'minute', date_trunc('minute', now()) - hour * interval '1 hour' - minute * interval '1 minute',
  'q', 'w' || n, %s || '-' || hour || '-' || n, 'completed', 2, '{"300": 2}', '{"200": 1, "201": 1}'
from generate_series(0, 23) as hour, generate_series(1, 2) as minute, generate_series(1, 4) as n
"""


@pytest.mark.parametrize("kind", ["own"], indirect=True)  # its tables are ours in all kinds
async def test_rows_are_bounded_over_a_month_and_counts_stay_whole(
    engine: PostgresEngine, table: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each hour of it has other nodes, and fewer rows do for a day than they would take."""
    monkeypatch.setattr("oban.engines.postgres.metrics.MOST_ROWS", 30)
    most: Counts[str] = Counts()
    days = 31
    await count(engine)
    for day in range(days):
        travel_a_day(table)
        table.execute(A_DAY.encode(), [f"node{day}"])
        table.execute("update oban_metrics_mark set counted_to = now()")
        table.execute("vacuum analyze oban_metrics")  # a month of it without autovacuum is slow
        while await engine.execute(engine.tend_metrics()):
            pass
        rows = table.execute("select grain, count(*)::int from oban_metrics group by 1").fetchall()
        most |= Counts(dict(rows))
    assert most["minute"] <= 8 * (KEPT["minute"] // 3_600 + 1)
    assert most["hour"] <= 8 * (KEPT["hour"] // 3_600 + 1)
    assert 30 < most["day"] <= (days + 1) * (30 + 4)
    total = days * 24 * 2 * 4 * 2
    (series,) = await engine.execute(engine.metrics("state", Scale.of(60 * 86_400), ALL))
    assert sum(sum(point.counts.values()) for point in series.points) == total
    assert sum(point.exec.count for point in series.points if point.exec) == total
    assert sum(point.wait.count for point in series.points if point.wait) == total
    nodes = await engine.execute(engine.metrics("node", Scale.of(60 * 86_400), ALL))
    assert nodes[-1].group == "*"


async def test_of_a_span_only_so_many_rows_are_kept_and_the_rest_is_put_together(
    engine: PostgresEngine, table: Connection
) -> None:
    await count(engine, lambda outlook: outlook.at - 3_600)
    table.execute(
        "insert into oban_jobs (queue, worker, state, completed_at, attempted_by) "
        "select 'q', 'w' || n % 700, 'completed', "
        "date_trunc('minute', timezone('UTC', now())) - interval '5 s', array['n' || n, 'u'] "
        "from generate_series(1, 2100) as n"
    )
    await count(engine)
    found = counted(table)
    assert sum(found.values()) == 2_100
    own = [key for key in found if key[2] != "*"]
    without_node = [key for key in found if key[2] == "*" and key[1] != "*"]
    assert len(own) == MOST_ROWS
    assert len(without_node) == MOST_ROWS
    assert found["*", "*", "*", "completed"] > 0
    assert len(found) == 2 * MOST_ROWS + 1
    # What comes later finds the same rows.
    finish(table, 3, ago=0, worker="late", attempted_by=["late", "u"])
    table.execute(
        "update oban_jobs set completed_at = "
        "date_trunc('minute', timezone('UTC', now())) - interval '4 s' where worker = 'late'"
    )
    table.execute("update oban_metrics_mark set counted_to = counted_to - interval '2 minutes'")
    table.execute("delete from oban_jobs where worker <> 'late'")
    await count(engine)
    assert sum(counted(table).values()) == 2_103
    assert len(counted(table)) == 2 * MOST_ROWS + 1


def sketched(values: list[int]) -> dict[int, int]:
    return dict(Counts(map(bin_of, values)))


async def test_sketches_of_many_nodes_tell_the_quantiles_of_all(
    engine: PostgresEngine, table: Connection
) -> None:
    chance = random.Random(7)
    given: list[int] = []
    for node in ("a", "b", "c"):
        for _ in range(4):
            values = [int(chance.lognormvariate(18, 1.5)) for _ in range(500)]
            given += values
            times = Times("q", "w", "completed", sketched(values), sketched([1] * 500))
            await engine.execute(engine.add_times(node, [times]))
    (series,) = await engine.execute(engine.metrics("worker", Scale.of(3_600), ALL))
    (told,) = [point for point in series.points if point.exec] or pytest.fail("two minutes")
    assert told.exec is not None
    exact = sorted(given)
    for share, found in ((0.5, told.exec.p50), (0.95, told.exec.p95), (0.99, told.exec.p99)):
        wanted = exact[int(share * (len(exact) - 1))] / 1e9
        assert abs(found - wanted) <= RELATIVE_ERROR * wanted * 1.001
    assert told.exec.count == len(given) == told.wait.count if told.wait else False
    assert told.counts == {}  # attempts, not jobs


async def test_series_have_the_same_points_and_the_newest_comes_last(
    engine: PostgresEngine, table: Connection
) -> None:
    finish(table, 4, ago=600)
    finish(table, 1, ago=1_200, queue="other")
    finish(table, 9, ago=7_300)
    await count(engine)
    scale = Scale.of(3_600)
    more, fewer = await engine.execute(engine.metrics("queue", scale, ALL))
    assert (more.group, fewer.group) == ("q", "other")
    assert [point.at for point in more.points] == [point.at for point in fewer.points]
    assert len(more.points) == 60
    assert time.time() - more.points[-1].at.timestamp() < 120
    assert [dict(p.counts) for p in more.points if p.counts] == [{"completed": 4}]
    (only,) = await engine.execute(engine.metrics("state", scale, MetricFilter(queue="other")))
    assert total([only]) == 1
    folded = await engine.execute(engine.metrics("queue", scale, MetricFilter(limit=1)))
    assert [each.group for each in folded] == ["q", "*"]


def total(found: list[Series]) -> int:
    return sum(sum(point.counts.values()) for each in found for point in each.points)


async def test_before_anything_was_counted_there_is_nothing(engine: PostgresEngine) -> None:
    assert await engine.execute(engine.metrics("state", Scale.of(3_600), ALL)) == []


async def test_a_stretch_is_made_of_what_is_kept_of_it(
    engine: PostgresEngine, table: Connection
) -> None:
    """Whether its hours and days were made already or not, each job is told of once."""
    for ago in range(100, 18_000, 700):
        finish(table, ago=ago)
    await count(engine)
    wanted = len(range(100, 18_000, 700))
    for _ in range(8):
        for since in (5 * 3_600 + 1_800, 10 * 86_400, 90 * 86_400):
            found = await engine.execute(engine.metrics("state", Scale.of(since), ALL))
            assert total(found) == wanted, since
        await engine.execute(engine.tend_metrics())


async def test_jobs_of_the_table_are_grouped_by_what_they_have_in_common(
    engine: PostgresEngine, table: Connection
) -> None:
    table.execute(
        "insert into oban_jobs (queue, worker, state, args, scheduled_at, attempted_at, "
        "completed_at, attempted_by) select 'q', 'w', 'completed', "
        "jsonb_build_object('tenant', jsonb_build_object('id', n % 3)), at, "
        "at + n * interval '1 s', at + n * interval '3 s', '{node,uuid}' "
        "from generate_series(0, 299) as n, timezone('UTC', now()) as at"
    )
    table.execute("insert into oban_jobs (queue, worker) values ('q', 'v')")
    table.execute(  # it failed, and runs again in an hour
        "insert into oban_jobs (queue, worker, state, attempted_at, scheduled_at) "
        "select 'q', 'again', 'retryable', at, at + interval '1 h' "
        "from timezone('UTC', now()) as at"
    )

    async def stats(by: str, wanted: MetricFilter = ALL, since: float | None = None) -> Any:
        return await engine.execute(engine.stats(path_of(by), since, wanted, 30.0))

    tenants = await stats("args.tenant.id")
    assert [(each.group, each.count) for each in tenants] == [
        ("0", 100), ("1", 100), ("2", 100), (None, 2)
    ]  # fmt: skip
    assert tenants[0].counts == {"completed": 100}
    assert tenants[0].exec.p50 == pytest.approx(297, abs=1)
    assert tenants[0].wait.mean == pytest.approx(148.5, abs=0.01)
    assert (tenants[3].exec, tenants[3].wait) == (None, None)
    assert [each.group for each in await stats("worker")] == ["w", "again", "v"]
    assert [each.group for each in await stats("node")] == ["node", None]
    assert [each.group for each in await stats("worker", MetricFilter(limit=1))] == ["w"]
    assert [each.group for each in await stats("worker", MetricFilter(state="available"))] == ["v"]
    assert await stats("worker", MetricFilter(queue="none")) == []
    table.execute("delete from oban_jobs where worker = 'again'")
    table.execute(
        "update oban_jobs set inserted_at = inserted_at - interval '1 h' where worker = 'w'"
    )
    assert [each.group for each in await stats("queue", since=1_800.0)] == ["q"]
    assert (await stats("queue", since=1_800.0))[0].count == 1


async def test_a_report_that_takes_too_long_is_ended_and_not_tried_again(
    engine: PostgresEngine, table: Connection
) -> None:
    finish(table, 50_000)
    began = time.monotonic()
    with pytest.raises(TooSlow):
        await engine.execute(engine.stats(["worker"], None, ALL, 0.005))
    assert time.monotonic() - began < 2
