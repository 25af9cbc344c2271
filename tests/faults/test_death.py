"""Processes that die, freeze and return: their jobs run again, and nobody else's do."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.faults.conftest import Restart
from tests.faults.processes import Process
from tests.running.support import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

QUICK = {"interval": 0.3, "max_age": 1.0}

Node = Callable[..., Process]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    names = iter(range(100))

    def start(dsn: str, **options: Any) -> Process:
        name = f"node{next(names)}"
        records = tmp_path / f"records-{name}"
        settings = json.dumps({"queues": {"default": 5}, "refresher": QUICK, **options})
        program = [sys.executable, "-m", "tests.chaos.node", dsn, name, str(records), settings]
        return Process(*program, log=tmp_path / f"{name}.log")

    return start


def enqueue(dsn: str, count: int = 1, *, seconds: float = 60.0, kind: str = "Plain") -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "insert into oban_jobs (worker, args) select %s, jsonb_build_object("
            "'n', n, 'seconds', %s::float8) from generate_series(1, %s) as n",
            [f"tests.chaos.node.{kind}", seconds, count],
        )


def jobs(dsn: str) -> list[Any]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(
            "select state::text, attempt, attempted_by[1], coalesce((meta ->> 'crashes')::int, 0), "
            "jsonb_array_length(errors) from oban_jobs order by id"
        ).fetchall()


async def until(dsn: str, wanted: Callable[[list[Any]], object], deadline: float = 15) -> list[Any]:
    async def look() -> list[Any]:
        found = await asyncio.to_thread(jobs, dsn)
        return found if wanted(found) else []

    return await eventually(look, deadline)


def all_run(count: int, attempt: int = 1) -> Callable[[list[Any]], bool]:
    return lambda rows: (
        len(rows) == count and all(row[:2] == ("executing", attempt) for row in rows)
    )


async def test_the_jobs_of_a_killed_node_run_on_another_and_those_of_the_other_go_on(
    oban_dsn: str, node: Node
) -> None:
    async with node(oban_dsn) as dying:
        await dying.line("ready")
        enqueue(oban_dsn, 2)
        await until(oban_dsn, all_run(2))
        async with node(oban_dsn) as other:
            await other.line("ready")
            enqueue(oban_dsn, 4)
            # Three slots are free where the first two run, five at the other.
            rows = await until(oban_dsn, all_run(6))
            own = [row for row in rows if row[2] == "node0"]
            dying.kill()
            rows = await until(
                oban_dsn,
                lambda rows: (
                    sum(row[1] == 2 for row in rows) >= 1
                    and not any(row[2] == "node0" and row[0] == "executing" for row in rows)
                ),
            )
            rescued = [row for row in rows if row[3] == 1]
            assert len(rescued) == len(own)
            assert all(row[4] == 1 for row in rescued)
            assert all(row[1] == 1 and row[4] == 0 for row in rows if row[3] == 0)


async def test_a_live_job_is_not_rescued_however_old_it_looks(
    own_server: tuple[str, Restart], node: Node
) -> None:
    dsn, restart = own_server
    async with node(dsn) as one, node(dsn) as two:
        for each in (one, two):
            await each.line("ready")
        enqueue(dsn, 2)
        await until(dsn, all_run(2))
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(
                "update oban_jobs set attempted_at = attempted_at - interval '1 day'"
            )
            connection.execute(
                "insert into oban_jobs (worker, state, attempt, attempted_by, attempted_at) values "
                "('elixir', 'executing', 1, '{far,11111111-1111-4111-8111-111111111111}', "
                "now() - interval '1 day')"
            )
        await asyncio.sleep(3)
        await asyncio.to_thread(restart, "immediate")
        await asyncio.sleep(4)
        rows = await asyncio.to_thread(jobs, dsn)
        assert [row[:2] for row in rows] == [("executing", 1)] * 3
        assert [row[3] for row in rows] == [0, 0, 0]


async def test_a_frozen_process_that_returns_changes_nothing(oban_dsn: str, node: Node) -> None:
    async with node(oban_dsn) as zombie:
        await zombie.line("ready")
        enqueue(oban_dsn, 2, seconds=2.0)
        await until(oban_dsn, all_run(2))
        zombie.stop()
        async with node(oban_dsn) as heir:
            await heir.line("ready")
            await until(oban_dsn, all_run(2, attempt=2))
            zombie.resume()
            await zombie.line("oban.producer.stale", count=2)
            rows = await until(oban_dsn, lambda rows: all(row[0] == "completed" for row in rows))
            assert [row[1:4] for row in rows] == [(2, "node1", 1)] * 2


async def test_a_death_during_the_grace_period_is_no_crash(oban_dsn: str, node: Node) -> None:
    async with node(oban_dsn, shutdown_grace_period=30) as leaving:
        await leaving.line("ready")
        enqueue(oban_dsn)
        await until(oban_dsn, all_run(1))
        leaving.terminate()
        query = "select meta ->> 'shutdown_started_at' from oban_producers"

        async def told() -> object:
            with psycopg.connect(oban_dsn) as connection:
                row = connection.execute(query).fetchone()
            return row is not None and row[0]

        await eventually(told)
        leaving.kill()
        async with node(oban_dsn) as heir:
            await heir.line("ready")
            rows = await until(oban_dsn, lambda rows: rows[0][2] == "node1")
            assert rows == [("executing", 1, "node1", 0, 0)]


async def test_a_process_and_its_server_that_die_together_leave_nothing_behind(
    own_server: tuple[str, Restart], node: Node
) -> None:
    dsn, restart = own_server
    async with node(dsn) as dying:
        await dying.line("ready")
        enqueue(dsn, 3)
        await until(dsn, all_run(3))
        dying.kill()
        await asyncio.to_thread(restart, "immediate")
    async with node(dsn) as heir:
        await heir.line("ready")
        rows = await until(dsn, all_run(3, attempt=2))
        assert [row[3] for row in rows] == [1, 1, 1]


async def test_a_job_that_kills_its_process_is_given_up_and_those_beside_it_are_not(
    oban_dsn: str, node: Node
) -> None:
    lifeline = {"max_crashes": 4}
    async with node(oban_dsn, lifeline=lifeline) as first:
        await first.line("ready")
        enqueue(oban_dsn, 2, seconds=4.0)
        enqueue(oban_dsn, kind="Killing")
        deaths = 1
        await first.exited(timeout=20)
    while True:
        async with node(oban_dsn, lifeline=lifeline) as next_one:
            await next_one.line("ready")
            done = asyncio.create_task(
                until(
                    oban_dsn,
                    lambda rows: all(
                        row[0] != "executing" and row[0] != "available" for row in rows
                    ),
                    25,
                )
            )
            died = asyncio.create_task(next_one.exited(timeout=30))
            await asyncio.wait([done, died], return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                died.cancel()
                rows = done.result()
                break
            done.cancel()
            deaths += 1
    assert deaths == 4
    assert [row[0] for row in rows] == ["completed", "completed", "discarded"]
    assert rows[2][3] == 4
