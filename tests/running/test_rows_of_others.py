"""Rows that somebody else wrote fail alone: the queue goes on, and each ends or waits."""

from typing import Any

import psycopg
import pytest
from tests.running.support import Running, eventually, named, reached

from oban import Job, Oban, Worker, worker


@worker()
class Fine(Worker):
    async def process(self, job: Job) -> None:
        pass


def insert(dsn: str, **columns: Any) -> int:
    columns = {"worker": Definition, "queue": "default", **columns}
    names = ", ".join(columns)
    values = ", ".join(
        str(value) if name in RAW else f"'{value}'" for name, value in columns.items()
    )
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(
            f"insert into oban_jobs ({names}) values ({values}) returning id".encode()
        ).fetchone()
    assert row is not None
    return int(row[0])


Definition = f"{__name__}.Fine"
RAW = {"attempt", "max_attempts", "priority", "tags"}


async def test_a_worker_nobody_knows_goes_back_uncounted(
    running: Running, oban_dsn: str, events: list[Any]
) -> None:
    async with running() as oban:
        identity = insert(oban_dsn, worker="Elixir.Some.Worker")
        job = await reached(oban, identity, "scheduled")
        await reached(oban, await oban.enqueue(Fine.new()), "completed")
    assert (job.attempt, job.meta["unknown_worker"]) == (0, 1)
    assert "Elixir.Some.Worker" in job.errors[0]["error"]
    assert len(named(events, "oban.job.exception")) == 1


async def test_after_twenty_tries_an_unknown_worker_is_discarded(
    running: Running, oban_dsn: str
) -> None:
    async with running() as oban:
        identity = insert(oban_dsn, worker="no.such.Worker", meta='{"unknown_worker": 19}')
        job = await reached(oban, identity, "discarded")
    assert job.meta["unknown_worker"] == 20


@pytest.mark.parametrize(
    "args", ["[1, 2]", '"text"', "17", '{"n": 1' + "0" * 5000 + "}", "[" * 900 + "]" * 900]
)
async def test_args_that_are_no_object_fail_alone(
    running: Running, oban_dsn: str, args: str
) -> None:
    async with running() as oban:
        identity = insert(oban_dsn, args=args)
        job = await reached(oban, identity, "retryable")
        await reached(oban, await oban.enqueue(Fine.new()), "completed")
    assert "args" in job.errors[0]["error"]


@pytest.mark.parametrize(
    "columns",
    [
        {"priority": 12},
        {"priority": 32_767},
        {"meta": "[]"},
        {"meta": '{"snoozed": "many", "unknown_worker": {}}'},
        {"tags": "array[null, 'A b', E'\\x01']::text[]"},
        {"scheduled_at": "-infinity"},
        {"scheduled_at": "0044-03-15 BC"},
        {"queue": "default"},
    ],
)
async def test_odd_columns_do_not_stop_the_queue(
    running: Running, oban_dsn: str, columns: dict[str, Any]
) -> None:
    async with running() as oban:
        identity = insert(oban_dsn, **columns)
        await reached(oban, identity, "completed", "retryable")
        await reached(oban, await oban.enqueue(Fine.new()), "completed")


async def test_an_available_job_without_an_attempt_left_is_discarded_by_the_stager(
    running: Running, oban_dsn: str
) -> None:
    identity = insert(oban_dsn, attempt=3, max_attempts=3)
    foreign = insert(oban_dsn, attempt=3, max_attempts=3, queue="not_ours")
    async with running(stager={"interval": 0.05}) as oban:
        job = await reached(oban, identity, "discarded")
        untouched = await oban.get_job(foreign)
    assert "without an attempt left" in job.errors[0]["error"]
    assert untouched is not None
    assert untouched.state == "available"


async def test_a_job_deleted_while_it_runs_is_an_event(
    running: Running, oban_dsn: str, events: list[Any]
) -> None:
    async with running() as oban:
        await oban.enqueue(DeletingItself.new({"dsn": oban_dsn}))

        async def stale() -> list[Any]:
            return named(events, "oban.producer.stale")

        await eventually(stale)
        await reached(oban, await oban.enqueue(Fine.new()), "completed")


@worker()
class DeletingItself(Worker):
    def process(self, job: Job) -> None:
        with psycopg.connect(job.args["dsn"], autocommit=True) as connection:
            connection.execute("delete from oban_jobs where id = %s", [job.id])


async def test_an_update_leaves_what_it_does_not_name_to_the_last_digit(
    client: Oban, oban_dsn: str
) -> None:
    """Python has no number for these, or reads none so long."""
    texts = [
        '{"n": 12345678901234567890.123}',
        '{"n": 1' + "0" * 400 + ".5}",
        '{"n": 1' + "0" * 5_000 + "}",
    ]
    jobs = [insert(oban_dsn, args=text) for text in texts]
    assert len(await client.update_many_jobs(jobs, {"priority": 2, "tags": ["new"]})) == 3
    with psycopg.connect(oban_dsn) as connection:
        rows = connection.execute(
            "select cast(args as text), priority, tags from oban_jobs order by id"
        ).fetchall()
    assert rows == [(text, 2, ["new"]) for text in texts]
