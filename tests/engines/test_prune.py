"""What has ended is deleted once it is old, or too many; of our queues and nothing else."""

import math
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from tests.running.support import named

from oban.engines.postgres import PostgresEngine
from oban.errors import InvalidOption
from oban.options import PrunerOptions
from oban.part import parse
from oban.running.leader import Leader
from oban.running.pruner import Pruner, kept
from oban.states import FINAL

ENDED = {state: f"{state}_at" for state in FINAL}

Finish = Callable[..., None]


@pytest.fixture
def finish(oban_dsn: str) -> Finish:
    """Have jobs of a queue, one for each age in minutes, that ended so long ago."""
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute("insert into oban_owned_queues (queue) values ('ours'), ('other')")

    def make(*ages: int, state: str = "completed", queue: str = "ours") -> None:
        with psycopg.connect(oban_dsn, autocommit=True, prepare_threshold=None) as connection:
            for age in ages:
                connection.execute(
                    f"insert into oban_jobs (worker, queue, state, tags, {state}_at) values "
                    "('w', %s, %s::oban_job_state, array[%s], "
                    "timezone('UTC', now()) - %s * interval '1 minute')".encode(),
                    [queue, state, str(age), age],
                )

    return make


def left(dsn: str, state: str = "completed", queue: str = "ours") -> list[int]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "select tags[1]::int from oban_jobs where state::text = %s and queue = %s order by 1",
            [state, queue],
        )
        return [age for (age,) in rows]


async def prune(engine: PostgresEngine, limit: int = 1000, **options: Any) -> int:
    rules = kept(parse(PrunerOptions, "pruner.", options))
    return await engine.execute(engine.prune(rules, limit))


@pytest.mark.parametrize("state", sorted(FINAL))
async def test_what_is_older_than_max_age_goes(
    engine: PostgresEngine, finish: Finish, oban_dsn: str, state: str
) -> None:
    finish(1, 5, 9, 11, 100, state=state)
    assert await prune(engine, max_age=600) == 2
    assert left(oban_dsn, state) == [1, 5, 9]


async def test_what_has_not_ended_stays_however_old(
    engine: PostgresEngine, finish: Finish, oban_dsn: str
) -> None:
    finish(999, 999, 999, 999)
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        for n, state in enumerate(("available", "scheduled", "retryable", "executing"), 1):
            connection.execute(
                "update oban_jobs set state = %s::oban_job_state where id = %s", [state, n]
            )
    assert await prune(engine, max_age=0) == 0


async def test_only_so_many_of_the_newest_are_kept(
    engine: PostgresEngine, finish: Finish, oban_dsn: str
) -> None:
    finish(*range(10))
    finish(*range(3), queue="other")
    assert await prune(engine, max_count=4) == 6
    assert left(oban_dsn) == [0, 1, 2, 3]
    assert left(oban_dsn, queue="other") == [0, 1, 2]
    assert await prune(engine, max_count=0) == 7


async def test_of_jobs_that_ended_at_one_moment_so_many_are_kept_all_the_same(
    engine: PostgresEngine, finish: Finish, oban_dsn: str
) -> None:
    finish(*range(10))
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute("update oban_jobs set completed_at = timezone('UTC', now())")
    assert await prune(engine, max_count=4) == 6
    assert left(oban_dsn) == [6, 7, 8, 9]  # the last that were inserted
    assert await prune(engine, max_count=4) == 0


async def test_jobs_that_the_database_refuses_to_delete_are_spared(
    engine: PostgresEngine, finish: Finish, oban_dsn: str, events: list[Any]
) -> None:
    finish(*range(10))
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute("create table invoices (job_id bigint references oban_jobs (id))")
        connection.execute(
            "insert into invoices select id from oban_jobs where tags[1] in ('3', '9')"
        )
        leader = Leader("node", wanted=True)
        leader.until = math.inf
        options = parse(PrunerOptions, "pruner.", {"max_age": 0, "limit": 4})
        pruner = Pruner(engine, engine.session("test"), options, leader)
        for _ in range(20):
            await pruner.tick()
        await pruner.session.close()
        connection.execute("drop table invoices")
    assert left(oban_dsn) == [3, 9]
    assert len({each["job_id"] for each in named(events, "oban.pruner.refused")}) == 2


async def test_the_most_particular_rule_wins(
    engine: PostgresEngine, finish: Finish, oban_dsn: str
) -> None:
    for queue in ("ours", "other"):
        for state in FINAL:
            finish(3, 7, 30, state=state, queue=queue)
    options: dict[str, Any] = {
        "max_age": 1200,
        "states": {"discarded": 3600},
        "queues": {"other": {"max_age": 300, "states": {"cancelled": {"max_age": 60}}}},
    }
    await prune(engine, **options)
    assert {state: left(oban_dsn, state) for state in FINAL} == {
        "completed": [3, 7],
        "cancelled": [3, 7],
        "discarded": [3, 7, 30],
    }
    assert {state: left(oban_dsn, state, "other") for state in FINAL} == {
        "completed": [3],
        "cancelled": [],
        "discarded": [3],
    }


async def test_the_oldest_go_first_in_batches(
    engine: PostgresEngine, finish: Finish, oban_dsn: str
) -> None:
    finish(*range(20, 45))
    assert await prune(engine, limit=10, max_age=60) == 10
    assert left(oban_dsn) == list(range(20, 35))
    assert [await prune(engine, limit=10, max_age=60) for _ in range(3)] == [10, 5, 0]


async def test_queues_that_no_node_of_ours_ran_are_left_alone(
    engine: PostgresEngine, finish: Finish, oban_dsn: str
) -> None:
    finish(999, queue="elixir")
    assert await prune(engine, max_age=0) == 0


async def test_a_cancelled_job_whose_code_still_runs_stays(
    engine: PostgresEngine, finish: Finish, oban_dsn: str
) -> None:
    finish(999, state="cancelled")
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute("update oban_jobs set stopping_at = now()")
    assert await prune(engine, max_age=0) == 0


async def test_two_pruners_share_the_work(
    engine: PostgresEngine, finish: Finish, oban_dsn: str
) -> None:
    finish(10, 20, 30)
    with psycopg.connect(oban_dsn) as connection:
        connection.execute("select from oban_jobs where tags = '{30}' for update")
        assert await prune(engine, max_age=0) == 2
    assert await prune(engine, max_age=0) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"states": {"executing": 60}}, "only jobs that have ended"),
        ({"queues": {"a": {"states": {"executing": 60}}}}, "only jobs that have ended"),
        ({"max_age": -1}, "pruner.max_age is -1"),
        ({"max_age": "1d"}, "a number of seconds"),
        ({"max_aeg": 1}, "the nearest is pruner.max_age"),
        ({"queues": {"a": {"max_count": 1.5}}}, "whole number"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        parse(PrunerOptions, "pruner.", options)
