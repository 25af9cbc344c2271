import asyncio
import json

import psycopg
from tests.cli.conftest import Command, Insert, Ran
from tests.running.support import eventually

from oban import Oban, schema
from oban.engines.postgres import PostgresEngine
from oban.engines.runs import ProducerIdentity

LATEST = schema.latest_version()


def test_jobs_are_counted_by_queue_and_state(oban: Command, insert: Insert) -> None:
    insert()
    insert()
    insert(state="completed")
    insert(queue="mailers", state="retryable")
    shown = oban("status", "--json").json
    assert shown["queues"] == {
        "default": {"available": 2, "completed": 1},
        "mailers": {"retryable": 1},
    }
    assert shown["version"] == shown["latest"] == LATEST
    assert shown["pending"] == []
    assert shown["problem"] is None
    lines = [line.split() for line in oban("status").out.splitlines()]
    assert ["queue", "available", "retryable", "completed", "oldest"] in lines
    assert ["default", "2", "1", "0s"] in lines
    assert ["mailers", "1"] in lines


def test_the_password_is_masked(oban: Command, oban_dsn: str) -> None:
    # A server that trusts us takes any password.
    password = str(psycopg.conninfo.conninfo_to_dict(oban_dsn).get("password", "open sesame"))
    dsn = psycopg.conninfo.make_conninfo(oban_dsn, password=password)
    shown = oban("status", "--dsn", dsn).out + oban("status", "--dsn", dsn, "--json").out
    assert "***" in shown
    assert password not in shown


async def test_producers_are_listed(oban: Command, oban_dsn: str, engine: PostgresEngine) -> None:
    identity = ProducerIdentity("5b2a3f4c-0000-4000-8000-000000000001", "Oban", "web-1", "mailers")
    await engine.execute(engine.register(identity, 60.0))
    (known,) = await engine.execute(engine.known_producers())
    assert known.identity == identity
    assert known.running_count == 0


def test_producers_are_shown(oban: Command, oban_dsn: str) -> None:
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute(
            "insert into oban_owners (uuid, name, node, queue) "
            "values ('5b2a3f4c-0000-4000-8000-000000000001', 'Oban', 'web-1', 'mailers')"
        )
        connection.execute(
            "insert into oban_jobs (worker, state, attempted_by) values "
            "('w', 'executing', '{web-1,5b2a3f4c-0000-4000-8000-000000000001}')"
        )
    (producer,) = oban("status", "--json").json["producers"]
    assert producer["node"] == "web-1"
    assert producer["running_count"] == 1
    assert ["web-1", "mailers", "5b2a3f4c", "1", "now"] in [
        line.split()[:5] for line in oban("status").out.splitlines()
    ]


async def test_a_check_is_an_exit_code(command: Command, oban_dsn: str, insert: Insert) -> None:
    insert(queue="other")

    async def check(*more: str) -> Ran:
        return await asyncio.to_thread(command, "status", "--check", "--dsn", oban_dsn, *more)

    ran = await check()
    assert "no jobs" not in ran.out
    assert "not counted" in ran.out
    assert (ran.code, ran.err) == (1, "error: no node runs a queue\n")
    async with Oban(pool=oban_dsn, queues={"default": 1}, refresher={"interval": 0.2}) as oban:
        assert oban.running_node is not None
        await oban.running_node.heart.beat()  # the first was told before it led
        assert (await check()).code == 0
        shown = (await asyncio.to_thread(command, "status", "--json", "--dsn", oban_dsn)).json
        assert shown["leader"] == oban.node
        assert shown["producers"][0]["alive"] is True
        assert shown["lag"]["other"] >= 0
        await oban.pause_queue("default")

        async def paused() -> bool:
            return oban.check_all_queues()[0].paused

        await eventually(paused)
        insert(queue="default", scheduled_at="2020-01-01")
        ran = await check("--max-lag", "60")
        assert "the oldest available job of queue default has waited" in ran.err
        assert ran.code == 1


def test_what_was_not_counted_is_not_said_to_be_none(oban: Command, insert: Insert) -> None:
    insert()
    assert json.loads(oban("status", "--check", "--json").out)["queues"] is None
    ran = oban("status", "--max-lag", "5")
    assert ran.code == 2
    assert "--max-lag goes with --check" in ran.err


def test_no_tables_is_an_answer_and_no_error(command: Command, dsn: str) -> None:
    shown = command("status", "--dsn", dsn, "--json").json
    assert shown["tables"] == "missing"
    assert "oban install" in shown["problem"]
    text = command("status", "--dsn", dsn)
    assert text.code == 0
    assert "run `oban install`" in text.out


def test_pending_migrations_are_named(command: Command, dsn: str) -> None:
    command("install", "--dsn", dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("delete from oban_migrations where version > 2")
    shown = command("status", "--dsn", dsn)
    assert shown.code == 0
    assert f"version 2 of {LATEST}" in shown.out
    assert "0003_columns" in shown.out
    assert "run `oban migrate`" in shown.out


def test_jobs_without_a_producer_table_are_counted(command: Command, dsn: str) -> None:
    """Tables of another package: old, and without ours."""
    command("install", "--dsn", dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("insert into oban_jobs (worker) values ('w')")
        connection.execute("drop table oban_owners, oban_migrations")
    shown = command("status", "--dsn", dsn, "--json").json
    assert shown["queues"] == {"default": {"available": 1}}
    assert shown["producers"] == []
