"""The calendar on a real database: each slot one job, whoever leads, heard or not."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from tests.running.support import Running, eventually, named

from oban import Job, Oban, Worker, worker
from oban.engines.cron import DueSlots
from oban.engines.postgres import PostgresEngine
from oban.engines.reads import JobFilter
from oban.periodic import Periodic
from oban.running.scheduler import Due, entries_of
from oban.vault import Vault
from oban.worker.definition import forget

QUICK = {"interval": 0.2, "max_age": 1}
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def entry(expr: str = "* * * * *", name: str = "entry", **options: Any) -> dict[str, Any]:
    return {"entries": [{"worker": "app.Nobody", "expr": expr, "name": name, **options}]}


def due(before: datetime, *slots: datetime, exclusive: bool = False) -> DueSlots:
    jobs = [Job(worker="w", scheduled_at=slot) for slot in slots]
    return DueSlots("entry", before, slots[-1], jobs, exclusive)


@pytest.fixture
async def opened(engine: PostgresEngine) -> PostgresEngine:
    opened = await engine.execute(engine.open_slots("Oban", {"entry": "a"}, NOON))
    assert opened == {"entry": NOON}
    return engine


async def test_a_new_entry_begins_now_and_is_then_read_as_it_stands(
    engine: PostgresEngine,
) -> None:
    (first,) = (await engine.execute(engine.open_slots("Oban", {"entry": "a"}))).values()
    assert datetime.now(UTC) - first < MINUTE + timedelta(seconds=1)
    assert (await engine.execute(engine.open_slots("Oban", {"entry": "a"}, NOON)))["entry"] == first
    # Read otherwise than before, it begins anew.
    assert (await engine.execute(engine.open_slots("Oban", {"entry": "b"}, NOON)))["entry"] == NOON
    other = await engine.execute(engine.open_slots("Other", {"entry": "b"}, NOON + MINUTE))
    assert other["entry"] == NOON + MINUTE


async def test_a_slot_is_taken_once_and_with_its_jobs(opened: PostgresEngine) -> None:
    slots = due(NOON, NOON + MINUTE, NOON + 2 * MINUTE)
    done = await opened.execute(opened.schedule("Oban", [slots]))
    assert done.moved == {"entry"}
    assert [job.scheduled_at for job in done.jobs] == [NOON + MINUTE, NOON + 2 * MINUTE]
    assert all(job.state == "available" for job in done.jobs)
    again = await opened.execute(opened.schedule("Oban", [slots]))
    assert (again.moved, again.jobs) == (frozenset(), ())
    (last,) = await opened.execute(opened.last_slots("Oban"))
    assert (last.slot, last.job_slot, last.job_id) == (slots.slot, slots.slot, done.jobs[-1].id)


async def test_of_leaders_that_take_a_slot_at_once_one_gets_it(opened: PostgresEngine) -> None:
    taking = [opened.execute(opened.schedule("Oban", [due(NOON, NOON + MINUTE)])) for _ in range(8)]
    done = await asyncio.gather(*taking)
    assert sorted(len(each.jobs) for each in done) == [0] * 7 + [1]


async def test_an_entry_that_excludes_itself_waits_until_its_last_job_has_finished(
    opened: PostgresEngine,
) -> None:
    first = await opened.execute(opened.schedule("Oban", [due(NOON, NOON + MINUTE)]))
    skipped = due(NOON + MINUTE, NOON + 2 * MINUTE, exclusive=True)
    done = await opened.execute(opened.schedule("Oban", [skipped]))
    assert done.moved == done.overlapping == {"entry"}
    assert done.jobs == ()
    await opened.execute(opened.cancel([first.jobs[0].id or 0]))
    free = due(NOON + 2 * MINUTE, NOON + 3 * MINUTE, exclusive=True)
    assert len((await opened.execute(opened.schedule("Oban", [free]))).jobs) == 1


async def jobs_of(oban: Oban, count: int) -> list[Job]:
    async def look() -> list[Job]:
        found = await oban.list_jobs(JobFilter(worker="app.Nobody"))
        return found if len(found) >= count else []

    return await eventually(look)


def set_back(dsn: str, **moved: float) -> None:
    """Have entries seen to up to an earlier time."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for name, minutes in moved.items():
            row = connection.execute(
                "update oban_cron_slots set slot = slot - %s * interval '1 minute' "
                "where entry = %s returning true",
                [minutes, name],
            ).fetchone()
            assert row is not None


async def test_a_slot_that_passed_while_no_leader_was_there_is_caught_up(
    client: Oban, running: Running, oban_dsn: str
) -> None:
    options: dict[str, Any] = {"queues": {"other": 1}, "refresher": QUICK}
    async with running(scheduler=entry(), **options):

        async def stored() -> bool:
            return bool(await client.engine.execute(client.engine.last_slots("Oban")))

        await eventually(stored)
        assert await client.list_jobs(JobFilter()) == []  # a new entry has no past
    set_back(oban_dsn, entry=5)
    async with running(scheduler=entry(), **options):
        (job,) = await jobs_of(client, 1)
    assert job.scheduled_at is not None
    assert datetime.now(UTC) - job.scheduled_at < 2 * MINUTE
    assert job.meta["cron_name"] == "entry"
    assert job.meta["cron_tz"] == "UTC"


async def test_of_two_nodes_one_enqueues_heard_or_not(
    client: Oban, running: Running, oban_dsn: str, server_dsn: str, events: list[Any]
) -> None:
    options: dict[str, Any] = {
        "queues": {"other": 1},
        "refresher": QUICK,
        "listen_dsn": server_dsn,
        "scheduler": entry(catch_up="all"),
    }
    began = datetime.now(UTC) - 30 * MINUTE
    await client.engine.execute(client.engine.open_slots("Oban", {"entry": "* * * * * UTC"}, began))
    async with running(**options) as one, running(**options) as two:
        jobs = await jobs_of(client, 30)
        assert [one.is_leader, two.is_leader].count(True) == 1
    slots = sorted(job.scheduled_at for job in jobs if job.scheduled_at)
    assert len(slots) == len(set(slots)) in (30, 31)
    assert {later - sooner for sooner, later in pairwise(slots)} == {MINUTE}
    enqueued = [told["enqueued_count"] for told in named(events, "oban.scheduler.evaluate.stop")]
    assert sum(enqueued) == len(slots)


async def test_what_runs_at_boot_runs_with_the_first_node_and_not_with_later_ones(
    client: Oban, running: Running
) -> None:
    options: dict[str, Any] = {
        "queues": {"other": 1},
        "refresher": QUICK,
        "scheduler": entry("@reboot"),
    }
    async with running(**options):
        await jobs_of(client, 1)
        async with running(**options) as second:
            assert second.running_node is not None
            for _ in range(5):
                await second.running_node.heart.beat()
        assert len(await jobs_of(client, 1)) == 1
    async with running(**options):
        await jobs_of(client, 2)


async def test_two_that_start_at_once_boot_once(client: Oban, running: Running) -> None:
    options: dict[str, Any] = {
        "queues": {"other": 1},
        "refresher": QUICK,
        "scheduler": entry("@reboot"),
    }
    for n in range(1, 4):
        async with asyncio.TaskGroup() as group, asyncio.timeout(20):
            ready = asyncio.Barrier(2)

            async def live(ready: asyncio.Barrier = ready, n: int = n) -> None:
                await ready.wait()
                async with running(**options) as oban:
                    assert oban.running_node is not None
                    await jobs_of(client, n)
                    for _ in range(3):
                        await oban.running_node.heart.beat()
                    await ready.wait()

            group.create_task(live())
            group.create_task(live())
        assert len(await jobs_of(client, n)) == n


async def test_an_entry_whose_job_is_refused_fails_alone(
    client: Oban, running: Running, oban_dsn: str, events: list[Any]
) -> None:
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute("alter table oban_jobs add constraint c check (queue <> 'bad')")
    good = {"worker": "app.Nobody", "name": "good", "queue": "good"}
    bad = {"worker": "app.Nobody", "name": "bad", "queue": "bad"}
    entries = [
        {**each, "name": f"{each['name']} {expr}", "expr": expr}
        for each in (bad, good)
        for expr in ("* * * * *", "@reboot")
    ]
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        minute = "date_trunc('minute', now()) - interval '1 minute'"
        for each in entries:
            if each["expr"] != "@reboot":
                connection.execute(
                    "insert into oban_cron_slots (name, entry, signature, slot) "
                    f"values ('Oban', %s, '* * * * * UTC', {minute})".encode(),
                    [each["name"]],
                )
        async with running(queues={"other": 1}, refresher=QUICK, scheduler={"entries": entries}):

            async def both() -> bool:
                found = await client.list_jobs(JobFilter(queue="good"))
                return {job.meta["cron_expr"] for job in found} == {"* * * * *", "@reboot"}

            await eventually(both)
        connection.execute("alter table oban_jobs drop constraint c")
    refused = {each["entry"] for each in named(events, "oban.scheduler.refused")}
    assert refused == {"bad * * * * *", "bad @reboot"}


def test_slots_that_were_missed_do_not_overlap_either() -> None:
    table = {"expr": "* * * * *", "catch_up": "all", "overlap": "skip"}
    missed = [NOON + n * MINUTE for n in range(1, 6)]
    slots = Due(Periodic.parse("w", table), NOON, missed).with_jobs("UTC", Vault())
    assert [job.scheduled_at for job in slots.jobs] == [missed[-1]]
    assert slots.slot == missed[-1]


def test_entries_of_one_name_from_two_workers_are_known() -> None:
    @worker(cron={"expr": "@daily", "name": "twin"}, oban="Twins")
    class One(Worker):
        async def process(self, job: Job) -> None: ...

    @worker(cron={"expr": "@hourly", "name": "twin"}, oban="Twins")
    class Two(Worker):
        async def process(self, job: Job) -> None: ...

    entries, twins = entries_of("Twins", ())
    assert [each.expr for each in entries] == ["@hourly"]
    assert twins == {"twin"}
    for each in (One, Two):
        forget(each.new().worker)


async def test_a_leader_without_queues_counts_as_one_that_was_there_before(
    client: Oban, running: Running
) -> None:
    options: dict[str, Any] = {"refresher": QUICK, "scheduler": entry("@reboot")}
    async with running(queues={}, leadership=True, **options):
        await jobs_of(client, 1)
        async with running(queues={"other": 1}, **options) as second:
            assert second.running_node is not None
            for _ in range(5):
                await second.running_node.heart.beat()
        assert len(await jobs_of(client, 1)) == 1
