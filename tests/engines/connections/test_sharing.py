"""Inserts that come at the same time share a statement, and nothing else."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

import psycopg
import pytest
from tests.engines.connections.heard import Heard
from tests.engines.connections.test_bulk import numbers, refused
from tests.engines.connections.test_lent import build, stored
from tests.engines.connections.test_lost import is_insert
from tests.faults.proxy import Proxy

from oban import Job, Oban
from oban.errors import DatabaseUnavailable, DataRefused, InvalidJob, ObanError, OutcomeUnknown
from oban.sharing import Sharing

COUNT = 100


@pytest.fixture
async def proxy(oban_dsn: str) -> AsyncIterator[Proxy]:
    async with Proxy(oban_dsn) as proxy:
        yield proxy


@pytest.fixture
async def behind(proxy: Proxy) -> AsyncIterator[Oban]:
    async with Oban(pool=proxy.dsn(), name="behind") as oban:
        await oban.get_job(1)
        yield oban


def numbered(count: int, queue: str = "default") -> list[Job]:
    return [build(queue, args={"n": n}) for n in range(count)]


def inserts_through(proxy: Proxy) -> list[str]:
    """The inserts that pass from now on."""
    sent: list[str] = []

    def note(sql: str) -> bool:
        sent.extend([sql] * is_insert(sql))
        return False  # and let it pass

    proxy.cut_before_send(note)
    return sent


async def test_calls_that_come_together_take_two_statements(
    proxy: Proxy, behind: Oban, heard: Heard
) -> None:
    """The first leaves at once, the others together when it has arrived."""
    sent = inserts_through(proxy)
    jobs = await asyncio.gather(*map(behind.enqueue, numbered(COUNT)))
    assert len(sent) == 2
    assert numbers(jobs) == list(range(COUNT))
    assert len({job.id for job in jobs}) == COUNT
    assert sorted(numbers(await stored(behind))) == list(range(COUNT))
    await behind.bell.flush()
    assert await heard.queues() == ["default", "default"]


async def test_one_after_the_other_each_leaves_at_once(proxy: Proxy, behind: Oban) -> None:
    sent = inserts_through(proxy)
    for job in numbered(5):
        await behind.enqueue(job)
    assert len(sent) == 5


async def test_a_job_that_is_refused_fails_alone(client: Oban) -> None:
    jobs = numbered(10)
    jobs[3], jobs[7] = refused(), replace(jobs[7])
    jobs[7].state = "executing"  # type: ignore[assignment]  # no job that can be inserted
    found = await asyncio.gather(*map(client.enqueue, jobs), return_exceptions=True)
    assert isinstance(found[3], DataRefused)
    assert isinstance(found[7], InvalidJob)
    others = [0, 1, 2, 4, 5, 6, 8, 9]
    assert sorted(numbers(await stored(client))) == others
    assert [found[n].args["n"] for n in others] == others  # type: ignore[call-overload]


CHANGES: dict[str, Callable[[Job], object]] = {
    "args": lambda job: job.args.update(x=object()),
    "meta": lambda job: job.meta.update(x={1, 2}),
    "tags": lambda job: job.tags.append(object()),  # type: ignore[arg-type]
    "queue": lambda job: setattr(job, "queue", object()),
    "scheduled_at": lambda job: setattr(job, "scheduled_at", "soon"),
}


@pytest.mark.parametrize("field", CHANGES)
async def test_a_job_that_was_changed_to_what_cannot_be_written_fails_alone(
    client: Oban, field: str
) -> None:
    jobs = numbered(6)
    CHANGES[field](jobs[3])
    found = await asyncio.gather(*map(client.enqueue, jobs), return_exceptions=True)
    assert [type(each) for each in found[:3] + found[4:]] == [Job] * 5
    assert isinstance(found[3], ObanError)
    assert sorted(numbers(await stored(client))) == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("field", ["args", "meta", "scheduled_at"])
async def test_it_is_told_which_field_that_was_however_it_is_enqueued(
    client: Oban, field: str
) -> None:
    job = build()
    CHANGES[field](job)
    with pytest.raises(InvalidJob, match=f"^{field} "):
        await client.enqueue(job)
    with pytest.raises(InvalidJob, match=f"^{field} "):
        await client.enqueue_many([build(), job])
    with pytest.raises(InvalidJob, match=f"^{field} "):
        await client.enqueue_stream([build(), job])
    with pytest.raises(InvalidJob, match=f"^{field} "):
        await asyncio.to_thread(client.enqueue_many_sync, [build(), job])
    assert await stored(client) == []


async def test_who_asks_for_no_notification_gets_none(client: Oban, heard: Heard) -> None:
    quiet = (client.enqueue(job, notify=False) for job in numbered(10, "quiet"))
    loud = map(client.enqueue, numbered(10, "loud"))
    await asyncio.gather(*quiet, *loud)
    assert set(await heard.queues()) == {"loud"}
    assert len(await stored(client)) == 20


async def test_a_notify_that_is_no_bool_is_taken_for_one(client: Oban) -> None:
    jobs = (client.enqueue(job, notify=1) for job in numbered(5))  # type: ignore[arg-type]
    assert len(await asyncio.gather(*jobs)) == 5


async def test_a_call_with_a_connection_is_part_of_its_transaction_alone(
    oban_dsn: str, client: Oban
) -> None:
    async with await psycopg.AsyncConnection.connect(oban_dsn) as connection:
        lent, *own = numbered(5)
        await asyncio.gather(client.enqueue(lent, conn=connection), *map(client.enqueue, own))
        await connection.rollback()
    assert sorted(numbers(await stored(client))) == [1, 2, 3, 4]


async def test_a_lost_reply_is_told_to_everybody_whose_job_was_sent(
    proxy: Proxy, behind: Oban, client: Oban
) -> None:
    inserts: list[str] = []

    def is_second(sql: str) -> bool:
        inserts.extend([sql] * is_insert(sql))
        return len(inserts) == 2

    cut = proxy.cut_before_reply(is_second)
    jobs = map(behind.enqueue, numbered(5))
    first, *others = await asyncio.gather(*jobs, return_exceptions=True)
    await cut.fired()
    assert isinstance(first, Job)
    assert [type(error) for error in others] == [OutcomeUnknown] * 4
    assert len(set(map(id, others))) == 4
    # Nothing was sent a second time.
    assert Counter(numbers(await stored(client))) == Counter(range(5))


# Without a database: who leaves when


class Line:
    """Where inserts stay until they are let through."""

    def __init__(self) -> None:
        self.sent: list[list[int]] = []
        self.open = asyncio.Semaphore(0)
        self.error: Exception | None = None

    async def insert(self, jobs: Sequence[Job], notify: bool) -> list[Job]:
        self.sent.append(numbers(jobs))
        await self.open.acquire()
        if self.error is not None:
            raise self.error
        return list(jobs)


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def sharing(line: Line) -> Sharing:
    return Sharing(line.insert)


async def ready(sharing: Sharing, count: int) -> list["asyncio.Task[Job]"]:
    tasks = [asyncio.create_task(sharing.enqueue(job, notify=True)) for job in numbered(count)]
    await asyncio.sleep(0)
    return tasks


async def test_who_is_cancelled_before_leaving_is_left_out(sharing: Sharing, line: Line) -> None:
    tasks = await ready(sharing, 4)
    tasks[2].cancel()
    await asyncio.sleep(0)
    for _ in range(2):
        line.open.release()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert line.sent == [[0], [1, 3]]
    assert isinstance(found[2], asyncio.CancelledError)


async def test_who_is_cancelled_on_the_way_takes_nobody_along(sharing: Sharing, line: Line) -> None:
    tasks = await ready(sharing, 4)
    line.open.release()
    await tasks[0]
    await asyncio.sleep(0)
    tasks[2].cancel()
    await asyncio.sleep(0)
    line.open.release()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert line.sent == [[0], [1, 2, 3]]
    assert [type(each) for each in found] == [Job, Job, asyncio.CancelledError, Job]


async def test_who_is_cancelled_after_all_were_refused_is_not_sent_again(
    sharing: Sharing, line: Line
) -> None:
    tasks = await ready(sharing, 5)
    line.open.release()
    await tasks[0]
    while len(line.sent) < 2:
        await asyncio.sleep(0)
    line.error = DataRefused("one of them")
    line.open.release()
    while len(line.sent) < 3:
        await asyncio.sleep(0)
    line.error = None
    tasks[4].cancel()
    for _ in range(5):
        line.open.release()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert line.sent == [[0], [1, 2, 3, 4], [1, 2], [3]]
    assert [type(each) for each in found] == [Job] * 4 + [asyncio.CancelledError]


async def test_a_bad_job_among_many_costs_them_few_statements(proxy: Proxy, behind: Oban) -> None:
    sent = inserts_through(proxy)
    jobs = numbered(100)
    jobs[60] = refused()
    found = await asyncio.gather(*map(behind.enqueue, jobs), return_exceptions=True)
    assert [type(each) for each in found].count(Job) == 99
    assert len(sent) <= 2 + 2 * 7  # the first alone, all others, and the two halves of each half


async def test_who_leaves_first_and_is_cancelled_lets_the_others_go(
    sharing: Sharing, line: Line
) -> None:
    tasks = await ready(sharing, 3)
    tasks[0].cancel()
    line.open.release()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert line.sent == [[0], [1, 2]]
    assert [type(each) for each in found] == [asyncio.CancelledError, Job, Job]


async def test_those_behind_one_that_stalls_leave_all_the_same(
    sharing: Sharing, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oban.sharing.STALLED", 0.01)
    tasks = await ready(sharing, 3)
    while len(line.sent) < 2:
        await asyncio.sleep(0.005)
    assert line.sent == [[0], [1, 2]]
    for _ in range(2):
        line.open.release()
    await asyncio.gather(*tasks)


@pytest.fixture
def soon_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oban.sharing.STALLED", 0.02)
    monkeypatch.setattr("oban.sharing.CLOCK", 0.001)


class Lines:
    """Inserts, of which those of a job numbered below zero stay for ever."""

    def __init__(self) -> None:
        self.stuck = 0

    async def insert(self, jobs: Sequence[Job], notify: bool) -> list[Job]:
        if min(numbers(jobs)) < 0:
            self.stuck += 1
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return list(jobs)


async def stuck(sharing: Sharing, lines: Lines) -> "asyncio.Task[Job]":
    count = lines.stuck + 1
    task = asyncio.create_task(sharing.enqueue(build(args={"n": -1}), notify=True))
    while lines.stuck < count:
        await asyncio.sleep(0.001)
    return task


@pytest.mark.usefixtures("soon_stalled")
async def test_once_one_is_overdue_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Lines()
    sharing = Sharing(lines.insert)
    dead = await stuck(sharing, lines)
    await sharing.enqueue(build(args={"n": 0}), notify=True)  # waits until it is
    monkeypatch.setattr("oban.sharing.STALLED", 3600)
    async with asyncio.timeout(5):
        for _ in range(3):
            await sharing.enqueue(build(args={"n": 0}), notify=True)
            await asyncio.gather(*(sharing.enqueue(job, notify=True) for job in numbered(5)))
            await sharing.run_between(lambda: asyncio.sleep(0))
    dead.cancel()


@pytest.mark.usefixtures("soon_stalled")
async def test_an_errand_goes_on_behind_one_that_is_overdue() -> None:
    lines = Lines()
    sharing = Sharing(lines.insert)
    dead = await stuck(sharing, lines)
    async with asyncio.timeout(5):
        await sharing.run_between(lambda: asyncio.sleep(0))
    dead.cancel()


@pytest.mark.usefixtures("soon_stalled")
async def test_those_behind_an_errand_that_stalls_leave_all_the_same() -> None:
    sharing = Sharing(Lines().insert)
    errand = asyncio.create_task(sharing.run_between(asyncio.Event().wait))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await asyncio.gather(*(sharing.enqueue(job, notify=True) for job in numbered(5)))
    errand.cancel()


@pytest.mark.usefixtures("soon_stalled")
async def test_where_all_stall_only_so_many_leave_and_the_next_when_one_arrives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("oban.sharing.MOST_OVERDUE", 2)
    lines = Lines()
    sharing = Sharing(lines.insert)
    dead = [await stuck(sharing, lines) for _ in range(3)]
    waiting = asyncio.create_task(sharing.enqueue(build(args={"n": 0}), notify=True))
    await asyncio.sleep(0.1)  # far longer than any of them takes to be overdue
    assert (len(sharing.overdue), waiting.done()) == (2, False)
    dead[0].cancel()
    async with asyncio.timeout(5):
        await waiting
    for task in dead:
        task.cancel()


async def test_a_crowd_leaves_in_parts(
    sharing: Sharing, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oban.sharing.MOST", 2)
    tasks = await ready(sharing, 6)
    for _ in range(4):
        line.open.release()
    await asyncio.gather(*tasks)
    assert line.sent == [[0], [1, 2], [3, 4], [5]]


class Wilful(Exception):
    """It can be made in one way only, and that is not copied."""

    def __init__(self, one: int, another: int) -> None:
        super().__init__(f"{one} and {another}")


@pytest.mark.parametrize(
    ("error", "own"),
    [(DatabaseUnavailable("away"), 3), (RuntimeError("unheard of"), 3), (Wilful(1, 2), 1)],
)
async def test_whatever_an_insert_fails_with_is_raised_to_all_it_carried(
    sharing: Sharing, line: Line, error: Exception, own: int
) -> None:
    tasks = await ready(sharing, 3)
    line.error = error
    for _ in range(2):
        line.open.release()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in found] == [type(error)] * 3
    assert len(set(map(id, found))) == own
    assert {str(each) for each in found} == {str(error)}
    line.error = None
    line.open.release()
    await sharing.enqueue(build(args={"n": 9}), notify=True)


def test_what_one_loop_left_behind_does_not_hold_up_the_next(sharing: Sharing, line: Line) -> None:
    async def leave() -> None:
        await ready(sharing, 2)  # and end, with both on their way

    async def come() -> Job:
        line.open = asyncio.Semaphore(1)
        return await sharing.enqueue(build(args={"n": 9}), notify=True)

    asyncio.run(leave())
    assert asyncio.run(come())
