"""Each least-privileged role can do its part and nothing beyond."""

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from psycopg.conninfo import make_conninfo
from tests.engines.catalog import execute
from tests.engines.foreign_tables import KINDS, tables_sql

from oban import Job, JobState, schema
from oban.engines.operation import Operation
from oban.engines.postgres import PostgresEngine
from oban.engines.reads import JobFilter
from oban.engines.runs import ProducerIdentity
from oban.errors import DatabaseError, SchemaError
from oban.outcome import Ack

pytestmark = pytest.mark.own_session("it logs in for everybody")

Verb = Callable[[PostgresEngine], Operation[object]]

PREFIX = 'of "ours" :x'
PRODUCER = ProducerIdentity(str(uuid4()), "Oban", "node", "default")

READS: list[Verb] = [
    lambda engine: engine.get([1]),
    lambda engine: engine.search(JobFilter()),
]
INSERTS: list[Verb] = [
    lambda engine: engine.insert([Job(worker="w")]),
    lambda engine: engine.insert([Job(worker="w", unique=True), Job(worker="w", unique=True)]),
]
CHANGES: list[Verb] = [
    lambda engine: engine.register(PRODUCER, 60.0),
    lambda engine: engine.turn(PRODUCER, [], 1),
    lambda engine: engine.turn(PRODUCER, [Ack(1, 1, JobState.RETRYABLE, error="e")], 0),
    lambda engine: engine.stage(["default"], 10),
    lambda engine: engine.stopped(PRODUCER, [(1, 1)]),
    lambda engine: engine.end_lost_turns(PRODUCER),
    lambda engine: engine.give_back(PRODUCER),
    lambda engine: engine.cancel([1]),
    lambda engine: engine.retry([1]),
    lambda engine: engine.update([1], lambda _: {"priority": 1}),
    lambda engine: engine.delete([1]),
    lambda engine: engine.forget([PRODUCER.uuid]),
]
LOOKS: list[Verb] = [
    lambda engine: engine.explain(1),
]
MAY: dict[str, list[Verb]] = {
    "reader": READS + LOOKS,
    "client": READS + INSERTS,
    "worker": READS + INSERTS + LOOKS + CHANGES,
}
HARMLESS = {"end_lost_turns"}  # it ends sessions of the same role and reads no table


@pytest.fixture
def role(dsn: str) -> Iterator[str]:
    name = f'oban "test" :{uuid4().hex[:8]}'
    quoted = f'"{name.replace(chr(34), chr(34) * 2)}"'
    execute(dsn, f"create role {quoted} login password 'word'")
    yield name
    execute(dsn, f"drop owned by {quoted}", f"drop role {quoted}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", MAY)
async def test_a_role_can_do_its_part_and_no_more(
    dsn: str, role: str, part: str, kind: str
) -> None:
    prefix = "public" if kind != "own" else PREFIX
    execute(dsn, tables_sql(kind, prefix))
    await schema.install(dsn, prefix)
    owner = PostgresEngine(dsn, prefix)
    await owner.execute(owner.insert([Job(worker="w")]))
    await owner.close()
    granted = {part: role}
    script = schema.roles_sql(prefix, **granted)
    execute(dsn, script, script)

    address = make_conninfo(dsn, user=role, password="word")
    engine = PostgresEngine(address, prefix)
    await engine.open()
    for verb in READS + INSERTS + LOOKS + CHANGES:
        operation = verb(engine)
        if verb in MAY[part] or operation.name in HARMLESS:
            await engine.execute(operation)
        else:
            with pytest.raises(DatabaseError, match="permission denied"):
                await engine.execute(operation)
    await engine.close()
    with pytest.raises(SchemaError, match="must be owner"):
        await schema.uninstall(address, prefix)
