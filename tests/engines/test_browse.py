"""Pages of jobs in the order of their state: each job once, none left out, however they are cut."""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import product
from secrets import token_hex
from typing import Any, Final

import psycopg
import pytest
from tests.roads import direct

from oban import Job, JobState
from oban.engines.browsing import Cursor, JobSearch, PathValue
from oban.engines.postgres import PostgresEngine
from oban.engines.reads import JobFilter
from oban.errors import TooSlow

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
ENDED: Final = {
    "completed": "completed_at", "cancelled": "cancelled_at", "discarded": "discarded_at"
}  # fmt: skip


@pytest.fixture
async def jobs(engine: PostgresEngine, oban_dsn: str) -> list[Job]:
    """A few hundred of all states, many of which share their moment."""
    dice = random.Random(7)
    wanted = [
        Job(
            worker=dice.choice(["app.One", "app.Two"]),
            queue=dice.choice(["a", "b", "c"]),
            priority=dice.choice([0, 0, 1, 5]),
            args={"n": dice.randrange(5), "user": {"id": str(dice.randrange(3))}},
            meta={"limits": ["api"]} if dice.random() < 0.2 else {},
            tags=["x"] if dice.random() < 0.3 else [],
        )
        for _ in range(400)
    ]
    inserted = await engine.execute(engine.insert(wanted))
    rows: list[dict[str, Any]] = []
    for job in inserted:
        state = dice.choice(list(JobState))
        at = (NOW + timedelta(seconds=dice.randrange(12))).isoformat()
        rows.append(
            {
                "id": job.id,
                "state": str(state),
                "scheduled_at": at,
                "attempted_at": at,
                "node": dice.choice(["n1", "n2"]),
                "attempt": 20 if state == "available" and dice.random() < 0.1 else 1,
                **({ENDED[state]: at} if state in ENDED else {}),
            }
        )
    with psycopg.connect(direct(oban_dsn), autocommit=True) as connection:
        connection.execute(
            """
            update oban_jobs as job set
              state = cast(new.state as oban_job_state), attempt = new.attempt,
              scheduled_at = new.scheduled_at, attempted_at = new.attempted_at,
              attempted_by = array[new.node, 'c0ffee00-0000-4000-8000-000000000000'],
              completed_at = new.completed_at, cancelled_at = new.cancelled_at,
              discarded_at = new.discarded_at
            from json_to_recordset(%s) as new(
              id bigint, state text, attempt int, scheduled_at timestamp, attempted_at timestamp,
              node text, completed_at timestamp, cancelled_at timestamp, discarded_at timestamp
            )
            where job.id = new.id
            """,
            [json.dumps(rows)],
        )
    return await engine.execute(engine.get([job.id or 0 for job in inserted]))


def in_order(jobs: list[Job], state: str | None) -> list[int]:
    """The ids as they are to be listed, worked out without a database."""

    def key(job: Job) -> Any:
        match state:
            case "available":
                return job.priority, job.scheduled_at, job.id
            case "scheduled" | "retryable":
                return job.scheduled_at, job.id
            case "executing":
                return -job.attempted_at.timestamp(), -(job.id or 0)  # type: ignore[union-attr]
            case "completed" | "cancelled" | "discarded":
                return -getattr(job, ENDED[state]).timestamp(), -(job.id or 0)
            case _:
                return -(job.id or 0)

    of_state = [job for job in jobs if state in (None, str(job.state))]
    return [job.id or 0 for job in sorted(of_state, key=key)]


#: Jobs on a page, and jobs that it looks at.
SIZES: Final = ((7, 20), (30, 45), (500, 20_000))
Passes = Callable[[Job], bool]
SEARCHES: Final[list[tuple[dict[str, Any], Passes]]] = [
    ({}, lambda job: True),
    ({"queue": "b"}, lambda job: job.queue == "b"),
    ({"worker": "app.One"}, lambda job: job.worker == "app.One"),
    ({"worker_like": "TWO"}, lambda job: job.worker == "app.Two"),
    ({"node": "n1"}, lambda job: job.attempted_by[0] == "n1"),
    ({"tags": ["x"]}, lambda job: "x" in job.tags),
    ({"priority": 5}, lambda job: job.priority == 5),
    ({"paths": [PathValue("args", ("n",), "3")]}, lambda job: job.args["n"] == 3),
    (
        {"queue": "c", "paths": [PathValue("args", ("user", "id"), "1")]},
        lambda job: job.queue == "c" and job.args["user"]["id"] == "1",
    ),
    ({"paths": [PathValue("args", ("n",), "nobody")]}, lambda job: False),
]


@pytest.mark.parametrize("state", [None, *map(str, JobState)])
async def test_pages_hold_each_job_that_matches_once_and_in_order(
    engine: PostgresEngine, jobs: list[Job], state: str | None
) -> None:
    for (given, passes), (limit, window) in product(SEARCHES, SIZES):
        wanted = JobSearch(state=state, **given)
        expected = in_order([job for job in jobs if passes(job)], state)
        assert await walk(engine, wanted, limit, window) == expected, (given, limit, window)
        counted = await engine.execute(engine.count_matching(wanted, 1_000))
        assert counted == len(expected)
    most = await engine.execute(engine.count_matching(JobSearch(state=state), 3))
    assert most == min(3, len(in_order(jobs, state)))


async def walk(engine: PostgresEngine, wanted: JobSearch, limit: int, window: int) -> list[int]:
    """The ids on all pages, one after the other."""
    seen: list[int] = []
    cursor: Cursor | None = None
    for _ in range(500):
        page = await engine.execute(engine.browse(wanted, limit, cursor, window))
        ids = [job.id or 0 for job in page.jobs]
        assert len(ids) <= limit
        assert page.is_cut == (len(ids) < limit and page.next is not None)
        seen += ids
        if page.next is None:
            return seen
        assert page.next != cursor
        cursor = page.next
    pytest.fail("it never ends")


@pytest.mark.parametrize("state", [None, *map(str, JobState)])
async def test_a_page_of_a_queue_is_full_where_the_queue_has_as_many(
    engine: PostgresEngine, jobs: list[Job], state: str | None
) -> None:
    page = await engine.execute(engine.browse(JobSearch(state=state, queue="b"), 5))
    assert len(page.jobs) == 5


@pytest.mark.parametrize("state", ["executing", *ENDED])
async def test_jobs_of_which_nobody_knows_when_come_first_and_once(
    engine: PostgresEngine, jobs: list[Job], oban_dsn: str, state: str
) -> None:
    moment = ENDED.get(state, "attempted_at")
    with psycopg.connect(direct(oban_dsn), autocommit=True) as connection:
        connection.execute(
            f"update oban_jobs set {moment} = null where state = %s and mod(id, 3) <> 0", [state]
        )
    of_state = {job.id or 0 for job in jobs if job.state == state}
    timeless = sorted((each for each in of_state if each % 3), reverse=True)
    for limit, window in ((3, 9), (7, 20), (500, 20_000)):
        for priority in (None, 0):
            wanted = JobSearch(state=state, priority=priority)
            seen = await walk(engine, wanted, limit, window)
            assert len(seen) == len(set(seen))
            if priority is None:
                assert set(seen) == of_state
                assert seen[: len(timeless)] == timeless


async def test_jobs_of_more_lanes_than_are_looked_into_are_on_the_pages(
    engine: PostgresEngine, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oban.engines.postgres.browsing.MOST_LANES", 5)
    lanes = [
        Job(worker="app.One", queue="abc"[n % 3], priority=n % 2, meta={"limits": [f"of-{n % 40}"]})
        for n in range(120)
    ]
    await engine.execute(engine.insert(lanes))
    available = await engine.execute(engine.search(JobFilter(["available"], limit=1_000)))
    for (given, passes), (limit, window) in product(SEARCHES[:3], SIZES):
        wanted = JobSearch(state="available", **given)
        expected = in_order([job for job in available if passes(job)], "available")
        assert await walk(engine, wanted, limit, window) == expected, (given, limit, window)


async def test_ids_are_those_of_the_page(engine: PostgresEngine, jobs: list[Job]) -> None:
    for state in (None, "available", "completed"):
        wanted = JobSearch(state=state, queue="a")
        page = await engine.execute(engine.browse(wanted, 10))
        ids, following = await engine.execute(engine.browse_ids(wanted, 10))
        assert (ids, following) == ([job.id for job in page.jobs], page.next)


async def test_named_jobs_are_found_however_old_they_are(
    engine: PostgresEngine, jobs: list[Job]
) -> None:
    ids = [jobs[0].id or 0, jobs[5].id or 0, 10**15]
    page = await engine.execute(engine.browse(JobSearch(ids=ids), 10))
    assert [job.id for job in page.jobs] == [jobs[5].id, jobs[0].id]
    first = await engine.execute(engine.browse(JobSearch(ids=ids), 1))
    rest = await engine.execute(engine.browse(JobSearch(ids=ids), 1, first.next))
    assert [job.id for job in (*first.jobs, *rest.jobs)] == [jobs[5].id, jobs[0].id]


async def test_what_happened_since_then_is_found(engine: PostgresEngine, jobs: list[Job]) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    page = await engine.execute(engine.browse(JobSearch(since=soon), 10))
    assert page.jobs == []
    page = await engine.execute(engine.browse(JobSearch(since=soon - timedelta(hours=2)), 500))
    assert len(page.jobs) == len(jobs)


@pytest.mark.parametrize("state", list(ENDED))
async def test_what_ended_before_then_is_not_even_looked_at(
    engine: PostgresEngine, jobs: list[Job], state: str
) -> None:
    """A window in which the older ones would have no place."""
    since = NOW + timedelta(seconds=8)
    late = [
        job.id
        for job in jobs
        if job.state == state and (at := getattr(job, ENDED[state])) and at >= since
    ]
    assert 0 < len(late) < sum(job.state == state for job in jobs)
    search = JobSearch(state=state, since=since)
    page = await engine.execute(engine.browse(search, len(late) + 1, window=len(late) + 1))
    assert sorted(job.id or 0 for job in page.jobs) == sorted(each or 0 for each in late)
    assert page.next is None


async def test_a_census_counts_all(engine: PostgresEngine, jobs: list[Job]) -> None:
    found = await engine.execute(engine.census())
    assert {(each.queue, each.worker, each.state): each.count for each in found} == {
        key: len([job for job in jobs if (job.queue, job.worker, str(job.state)) == key])
        for key in {(job.queue, job.worker, str(job.state)) for job in jobs}
    }


async def test_an_estimate_comes_near_once_the_server_has_looked(
    engine: PostgresEngine, jobs: list[Job], oban_dsn: str
) -> None:
    with psycopg.connect(direct(oban_dsn), autocommit=True) as connection:
        connection.execute("analyze oban_jobs")
    found = await engine.execute(engine.estimate())
    assert abs(sum(found.values()) - len(jobs)) < 10
    completed = len([job for job in jobs if job.state == "completed"])
    assert abs(found["completed"] - completed) < 5


async def test_a_read_that_takes_too_long_is_given_up_and_not_tried_again(
    engine: PostgresEngine, jobs: list[Job], oban_dsn: str
) -> None:
    with psycopg.connect(direct(oban_dsn)) as connection:
        connection.execute("lock table oban_jobs in access exclusive mode")
        began = datetime.now(UTC)
        with pytest.raises(TooSlow, match="it took too long"):
            await engine.execute(engine.within(engine.census(), 0.2))
        assert datetime.now(UTC) - began < timedelta(seconds=1)
    assert await engine.execute(engine.within(engine.census(), 5))


async def test_the_last_runs_of_each_entry_are_found_at_once(engine: PostgresEngine) -> None:
    def run(entry: str | None) -> Job:
        return Job(worker="w", meta={} if entry is None else {"cron_name": entry}, args={"n": 1})

    old = (await engine.execute(engine.insert([run("a")])))[0]
    await engine.execute(engine.insert([run(None)] * 30))
    made = await engine.execute(engine.insert([run("b"), run("a"), run("c"), run("b"), run("b")]))
    ids = [job.id for job in made]
    found = await engine.execute(engine.last_runs(["a", "b", "d"], [old.id or 0], 2, window=10))
    assert {entry: [job.id for job in runs] for entry, runs in found.items()} == {
        "a": [ids[1], old.id],
        "b": [ids[4], ids[3]],
    }
    # What it recorded is not read of each job that is looked at, only of one that is known.
    meta = {"cron_name": "a", "return": token_hex(2_000)}
    (large,) = await engine.execute(engine.insert([Job(worker="w", meta=meta)]))
    for known, newest in (([], ids[1]), ([large.id or 0], large.id)):
        found = await engine.execute(engine.last_runs(["a"], known, 1, window=10))
        assert [job.id for job in found["a"]] == [newest]


@pytest.mark.parametrize("state", [None, *map(str, JobState)])
async def test_what_came_later_is_on_no_page(
    engine: PostgresEngine, jobs: list[Job], state: str | None
) -> None:
    up_to = jobs[250].id or 0
    assert await engine.execute(engine.newest_id()) == jobs[-1].id
    expected = [each for each in in_order(jobs, state) if each <= up_to]
    for limit, window in SIZES:
        wanted = JobSearch(state=state, up_to=up_to)
        assert await walk(engine, wanted, limit, window) == expected
    assert await engine.execute(engine.count_matching(wanted, 1_000)) == len(expected)
