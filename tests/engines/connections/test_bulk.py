"""Many jobs in one call: one transaction, in order, in statements that are not too large."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import psycopg
import pytest
from tests.engines.connections.heard import Heard
from tests.engines.connections.test_lent import build, stored
from tests.faults.proxy import Proxy
from tests.running.support import eventually

from oban import Job, Oban
from oban.engines.postgres.insert_rows import MAX_INSERT_BYTES, MAX_INSERT_JOBS, chunked
from oban.engines.reads import JobFilter
from oban.errors import DataRefused, InvalidJob

MANY = 20_001


def numbered(count: int, queue: str = "default") -> Iterator[Job]:
    return (build(queue, args={"n": n}) for n in range(count))


def refused() -> Job:
    """A job that passes our validation and not the table's."""
    job = build(args={"n": "bad"})
    job.queue = ""
    return job


def numbers(jobs: Iterable[Job]) -> list[int]:
    return [job.args["n"] for job in jobs]


@pytest.fixture
async def observed(oban_dsn: str) -> AsyncIterator[tuple[Oban, list[str]]]:
    """An Oban, and the statements that it sends."""
    sent: list[str] = []

    def note(statement: str) -> bool:
        sent.append(statement)
        return False

    async with Proxy(oban_dsn) as proxy, Oban(pool=proxy.dsn(), name="observed") as oban:
        proxy.cut_before_send(note)
        sent.clear()
        yield oban, sent


def inserts(sent: list[str]) -> int:
    return sum("overriding system value" in statement for statement in sent)


@pytest.mark.parametrize("sync", [False, True], ids=["awaited", "sync"])
async def test_more_jobs_than_a_statement_takes_are_one_transaction_in_order(
    observed: tuple[Oban, list[str]], client: Oban, heard: Heard, oban_dsn: str, sync: bool
) -> None:
    oban, sent = observed
    if sync:
        jobs = await asyncio.to_thread(oban.enqueue_many_sync, numbered(MANY))
    else:
        jobs = await oban.enqueue_many(numbered(MANY))
    assert numbers(jobs) == list(range(MANY))
    ids = [job.id or 0 for job in jobs]
    assert ids == sorted(set(ids))
    assert inserts(sent) == 3
    assert len({job.inserted_at for job in jobs}) == 3  # each one's own clock
    found = await client.list_jobs(JobFilter(limit=MANY + 1))
    assert {job.id: job.args["n"] for job in found} == dict(zip(ids, range(MANY), strict=True))
    async with await psycopg.AsyncConnection.connect(oban_dsn) as direct:
        cursor = await direct.execute("select count(distinct cast(xmin as text)) from oban_jobs")
        assert await cursor.fetchone() == (1,)
    assert await heard.queues() == ["default"]


async def test_a_refusal_of_the_last_undoes_all(client: Oban, heard: Heard) -> None:
    with pytest.raises(DataRefused, match="queue_length"):
        await client.enqueue_many([*numbered(MANY), refused()])
    assert await stored(client) == []
    assert await heard.all() == []
    assert len(await client.enqueue_many(numbered(3))) == 3


async def test_a_generator_that_raises_inserts_nothing(client: Oban) -> None:
    def broken() -> Iterator[Job]:
        yield from numbered(3)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await client.enqueue_many(broken())
    assert await stored(client) == []


async def test_what_is_no_job_is_refused_before_anything(client: Oban) -> None:
    with pytest.raises(InvalidJob, match="'nope'; jobs are made by `new`"):
        await client.enqueue_many([build(), "nope"])  # type: ignore[list-item]
    executing = build(state="executing")
    with pytest.raises(InvalidJob, match="executing cannot be inserted"):
        await client.enqueue_many([build(), executing])
    assert await stored(client) == []


async def test_jobs_come_one_by_one_in_lists_and_from_generators(client: Oban) -> None:
    given = list(numbered(6))
    jobs = await client.enqueue_many(given[0], given[1:3], iter(given[3:5]), (given[5],))
    assert numbers(jobs) == [0, 1, 2, 3, 4, 5]
    assert await client.enqueue_many() == []
    assert await client.enqueue_many([], iter([])) == []


async def test_one_job_given_twice_is_two_jobs(client: Oban) -> None:
    job = build(args={"n": 1}, tags=["a"])
    first, second = await client.enqueue_many(job, job)
    assert first.id != second.id
    assert first.args == second.args == {"n": 1}
    first.args["n"] = 2
    assert (second.args, job.args, job.id) == ({"n": 1}, {"n": 1}, None)
    (third,) = await client.enqueue_many([first])
    assert third.id not in (first.id, second.id)


async def test_what_is_returned_is_what_is_stored(client: Oban) -> None:
    jobs = await client.enqueue_many(
        build(args={"pair": (1, 2)}, tags=[" B", "a"], meta={"x": None}),
        build(state="suspended", priority=9),
    )
    assert await stored(client) == jobs
    assert jobs[0].args == {"pair": [1, 2]}
    assert [job.state for job in jobs] == ["available", "suspended"]


def sized(*sizes: int) -> list[Job]:
    """Jobs whose arguments take about so many bytes each."""
    return [build(args={"n": n, "text": "x" * size}) for n, size in enumerate(sizes)]


MB = 1_000_000


@pytest.mark.parametrize(
    ("jobs", "statements"),
    [
        (list, []),
        (lambda: list(numbered(MAX_INSERT_JOBS)), [MAX_INSERT_JOBS]),
        (lambda: list(numbered(MAX_INSERT_JOBS + 1)), [MAX_INSERT_JOBS, 1]),
        (lambda: sized(5 * MB, 5 * MB, 5 * MB), [3]),
        (lambda: sized(5 * MB, 5 * MB, 5 * MB, 5 * MB), [3, 1]),
        (lambda: sized(9 * MB, 9 * MB, 9 * MB), [1, 1, 1]),
        (lambda: sized(20 * MB), [1]),
        (lambda: sized(1, 20 * MB, 1, 1), [1, 1, 2]),
        (lambda: [build(args={"text": "é" * (4 * MB)}) for _ in range(3)], [1, 1, 1]),
    ],
    ids=["none", "10000", "10001", "15MB", "20MB", "27MB", "one", "among small", "in bytes"],
)
def test_a_statement_takes_10_000_jobs_or_16_mb(
    jobs: Callable[[], list[Job]], statements: list[int]
) -> None:
    parts = list(chunked(jobs()))
    assert [len(part) for part, _ in parts] == statements
    for part, payload in parts:
        assert len(part) == 1 or len(payload.encode()) <= MAX_INSERT_BYTES + len(part) + 1


async def test_a_job_of_20_mb_goes_alone_and_in_order(
    observed: tuple[Oban, list[str]], client: Oban
) -> None:
    oban, sent = observed
    wanted = sized(1, 2, 20 * MB, 3)
    jobs = await oban.enqueue_many(wanted)
    assert inserts(sent) == 3
    assert numbers(jobs) == [0, 1, 2, 3]
    assert [len(job.args["text"]) for job in jobs] == [1, 2, 20 * MB, 3]
    found = await stored(client)
    assert [len(job.args["text"]) for job in found] == [1, 2, 20 * MB, 3]


# enqueue_stream: any number, in constant memory


async def count(oban_dsn: str) -> int:
    async with await psycopg.AsyncConnection.connect(oban_dsn) as direct:
        (row,) = await (await direct.execute("select count(*) from oban_jobs")).fetchall()
    return int(row[0])


async def test_a_stream_holds_the_batch_that_is_inserted_and_the_one_that_is_built(
    client: Oban, oban_dsn: str
) -> None:
    ahead: list[int] = []

    async def watched() -> AsyncIterator[Job]:
        for n, job in enumerate(numbered(20_001)):
            if n % 2_500 == 0:
                ahead.append(n - await count(oban_dsn))
            yield job

    assert await client.enqueue_stream(watched()) == 20_001
    assert max(ahead) <= 10_000
    found = await client.list_jobs(JobFilter(limit=30_000))
    assert numbers(found[::-1]) == list(range(20_001))


async def test_a_stream_may_be_a_plain_generator_or_empty(client: Oban, oban_dsn: str) -> None:
    assert await client.enqueue_stream(numbered(5_001)) == 5_001
    assert await client.enqueue_stream([]) == 0
    assert await count(oban_dsn) == 5_001


@pytest.mark.parametrize("fault", ["refused", "raised", "no job"])
@pytest.mark.parametrize("awaited", [True, False])
async def test_a_stream_that_fails_says_how_many_are_in(
    client: Oban, oban_dsn: str, fault: str, awaited: bool
) -> None:
    def jobs() -> Iterator[Any]:
        yield from numbered(10_002)
        if fault == "raised":
            raise ZeroDivisionError("in the source")
        yield refused() if fault == "refused" else "nope"

    async def later() -> AsyncIterator[Any]:
        for job in jobs():
            yield job

    expected = {"refused": DataRefused, "raised": ZeroDivisionError, "no job": InvalidJob}[fault]
    with pytest.raises(expected) as raised:
        await client.enqueue_stream(later() if awaited else jobs())
    assert raised.value.__notes__ == ["10000 jobs of the stream had been inserted before"]
    assert await count(oban_dsn) == 10_000


async def test_a_stream_notifies_once_for_each_batch_or_never(client: Oban, heard: Heard) -> None:
    await client.enqueue_stream(numbered(5_001, "loud"))
    assert await heard.queues() == ["loud", "loud"]
    await client.enqueue_stream(numbered(10, "silent"), notify=False)
    assert await heard.all() == []


async def test_a_stream_that_is_cancelled_leaves_nothing_on_its_way(
    client: Oban, oban_dsn: str
) -> None:
    is_left = asyncio.Event()

    async def endless() -> AsyncIterator[Job]:
        for job in numbered(5_000):
            yield job
        is_left.set()  # the first batch is, and the next never comes
        await asyncio.Event().wait()

    async with (
        await psycopg.AsyncConnection.connect(oban_dsn) as other,
        await psycopg.AsyncConnection.connect(oban_dsn, autocommit=True) as observer,
    ):
        await other.execute("lock table oban_jobs")

        async def waits() -> bool:
            cursor = await observer.execute(
                "select from pg_stat_activity where wait_event_type = 'Lock'"
                " and datname = current_database()"
            )
            return cursor.rowcount == 1

        stream = asyncio.create_task(client.enqueue_stream(endless()))
        await is_left.wait()
        await eventually(waits)
        stream.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stream
        assert not await waits()
        await other.rollback()
    assert await stored(client) == []
