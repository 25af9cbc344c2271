"""A prefix is an identifier, whatever stands in it, over every driver and spelling of SQL."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from tests.engines.connections.heard import Heard
from tests.engines.connections.kinds import KINDS, Lent
from tests.engines.connections.test_lent import build, stored
from tests.engines.connections.workers import Echo
from tests.running.support import reached

from oban import Oban, schema
from oban.testing import drain_queue, reset_oban

PREFIXES = (
    'a "b" c',
    "50% off %s %(x)s",
    "it's: :name ::text \\:x",
    "$1 {prefix} ?",
    "schéma-日本",
    "UPPER",
    "x" * 40,
)


@pytest.fixture(params=PREFIXES)
async def prefix(request: pytest.FixtureRequest, oban_dsn: str) -> AsyncIterator[str]:
    prefix = str(request.param)
    async with await psycopg.AsyncConnection.connect(oban_dsn, autocommit=True) as connection:
        await connection.execute(schema.install_sql(prefix).encode())
        yield prefix
        await connection.execute(schema.uninstall_sql(prefix).encode())


@pytest.fixture
async def elsewhere(oban_dsn: str, prefix: str) -> AsyncIterator[Oban]:
    async with Oban(pool=oban_dsn, prefix=prefix, name="elsewhere") as oban:
        yield oban


async def test_every_verb_works_there_on_every_kind_of_connection(
    prefix: str, elsewhere: Oban, client: Oban, oban_dsn: str
) -> None:
    async with Heard.listening(oban_dsn, prefix) as heard:
        for kind, opened in KINDS.items():
            async with opened(oban_dsn) as lent:
                await use_every_verb(lent, elsewhere)
                await lent.commit()
            assert await heard.queues() == ["default"], kind
            (job,) = await stored(elsewhere)
            assert await elsewhere.delete_job(job), kind
    assert await stored(client) == []


async def use_every_verb(lent: Lent, oban: Oban) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    job, other = await lent.call(oban, "enqueue_many", [build(), build(scheduled_at=soon)])
    assert await lent.call(oban, "get_job", job) == job
    assert (await lent.call(oban, "update_job", job, {"priority": 1})).priority == 1
    assert await lent.call(oban, "cancel_job", job)
    assert await lent.call(oban, "retry_job", job)
    assert await lent.call(oban, "delete_job", other)


async def test_a_node_runs_there(prefix: str, oban_dsn: str, client: Oban) -> None:
    async with Oban(pool=oban_dsn, prefix=prefix, name="node", queues={"default": 2}) as node:
        job = await node.enqueue(Echo.new())
        await reached(node, job, "completed")
        later = await node.enqueue(Echo.new(schedule_in=0.2))
        await reached(node, later, "completed")
    assert await stored(client) == []


async def test_the_testing_helpers_work_there(elsewhere: Oban, client: Oban) -> None:
    kept = await client.enqueue(Echo.new())
    await elsewhere.enqueue(Echo.new(schedule_in=60))
    assert (await drain_queue(oban="elsewhere"))["completed"] == 1
    await reset_oban("elsewhere")
    assert await stored(elsewhere) == []
    assert await stored(client) == [kept]
