"""Several real processes on one server: each job exactly once, also while connections break."""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import psycopg
import pytest
from tests.faults.conftest import Restart
from tests.faults.nodes import RUNS, Noting
from tests.faults.processes import Process
from tests.running.support import eventually

from oban import Job, Oban

Node = Callable[[str, str], Process]

QUEUES = "a:20,b:20,c:20,d:20"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    def start(dsn: str, name: str) -> Process:
        program = [sys.executable, "-m", "tests.faults.nodes", dsn, QUEUES, name]
        return Process(*program, log=tmp_path / f"{name}.log")

    return start


def ran(dsn: str) -> Counter[int]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return Counter(n for (n,) in connection.execute("select n from runs"))


def states(dsn: str) -> Counter[str]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        rows = connection.execute("select state::text, count(*) from oban_jobs group by 1")
        return Counter(dict(rows.fetchall()))


async def all_completed(dsn: str, number: int, deadline: float) -> None:
    async def look() -> bool:
        return (await asyncio.to_thread(states, dsn))["completed"] == number

    await eventually(look, deadline)


def jobs(dsn: str, number: int) -> list[Job]:
    return [Noting.new({"n": n, "dsn": dsn}, queue="abcd"[n % 4]) for n in range(number)]


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_ten_thousand_jobs_over_four_queues_and_two_processes_run_once(
    oban_dsn: str, client: Oban, node: Node
) -> None:
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute(RUNS)
        connection.execute("truncate runs")
    async with node(oban_dsn, "one") as one, node(oban_dsn, "two") as two:
        await one.line("ready")
        await two.line("ready")
        await client.enqueue_many(jobs(oban_dsn, 10_000))
        await all_completed(oban_dsn, 10_000, 60)
        for each in (one, two):
            each.terminate()
            assert await each.exited() == 0
    assert ran(oban_dsn) == Counter(range(10_000))
    assert states(oban_dsn) == {"completed": 10_000}
    with psycopg.connect(oban_dsn) as connection:
        nodes = connection.execute("select count(distinct node), max(attempt) from runs").fetchone()
    assert nodes == (2, 1)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.own_session("the connections that are cut are its own")
async def test_connections_cut_five_times_under_load(
    oban_dsn: str, client: Oban, node: Node
) -> None:
    """Every connection but our own, again and again: no crash, nothing lost, nothing stuck."""
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute(RUNS)
        connection.execute("truncate runs")
        await client.enqueue_many(jobs(oban_dsn, 6_000))
        async with node(oban_dsn, "one") as one:
            await one.line("ready")
            for _ in range(5):
                await asyncio.sleep(0.3)
                connection.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity "
                    "where application_name like 'oban %' and datname = current_database()"
                )
            await all_completed(oban_dsn, 6_000, 60)
            one.terminate()
            assert await one.exited() == 0
    counted = ran(oban_dsn)
    assert set(counted) == set(range(6_000))
    assert states(oban_dsn) == {"completed": 6_000}


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_server_restart_under_load(
    own_server: tuple[str, Restart], mode: Literal["fast", "immediate"], node: Node
) -> None:
    dsn, restart = own_server
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(RUNS)
    async with Oban(pool=dsn) as client:
        await client.enqueue_many(jobs(dsn, 4_000))
        async with node(dsn, "one") as one:
            await one.line("ready")
            await asyncio.sleep(0.4)
            await asyncio.to_thread(restart, mode)
            await all_completed(dsn, 4_000, 60)
            after = await client.enqueue(Noting.new({"n": 4_000, "dsn": dsn}, queue="a"))
            await all_completed(dsn, 4_001, 10)
            assert after.id is not None
            one.terminate()
            assert await one.exited() == 0
    assert set(ran(dsn)) == set(range(4_001))
    assert states(dsn) == {"completed": 4_001}
