"""A table large enough for the planner to care, made by one insert, and who works on it."""

from typing import Any, Final

import psycopg
from psycopg import sql

import oban.schema
from oban.engines.postgres import PostgresEngine
from oban.engines.postgres.connections.psycopg import SyncPsycopg
from oban.engines.postgres.drive import drive_sync
from oban.engines.runs import ProducerIdentity
from oban.outcome import AttemptKey

PRODUCER: Final = ProducerIdentity("5f1c30c2-3c3a-4a5e-8d53-0c6c7d8a9e01", "Oban", "node", "q1")
OTHER: Final = "5f1c30c2-3c3a-4a5e-8d53-0c6c7d8a9e02"
#: Jobs that have ended: four times as many as wait, and their ids come first.
FINISHED: Final = 100_000
QUEUES: Final = ("q0", "q1", "q2", "q3", "q4")

#: Every queue gets as many.
FILL: Final = """
insert into oban_jobs (
  state, queue, worker, attempt, max_attempts, attempted_by, scheduled_at, completed_at,
  cancelled_at, discarded_at, args
)
select
  cast(state as oban_job_state), 'q' || n % 5, 'Worker', attempt, 20, attempted_by,
  timezone('UTC', now()) + due, completed_at, case when state = 'cancelled' then completed_at end,
  case when state = 'discarded' then completed_at end, jsonb_build_object('n', n)
from (
  select n, case when n % 10 < 8 then 'completed' when n % 10 = 8 then 'cancelled'
    else 'discarded' end as state,
    1 as attempt, array['node', {other}] as attempted_by, interval '-1 day' as due,
    timezone('UTC', now()) - n * interval '1 millisecond' as completed_at
  from generate_series(1, {finished}) as n
  union all
  select n, 'available', 0, '{{}}', n * interval '-1 ms', null from generate_series(1, 20000) as n
  union all
  select n, 'available', 20, '{{}}', n * interval '-1 ms', null from generate_series(1, 50) as n
  union all
  select n, 'scheduled', 0, '{{}}', (n - 100.5) * interval '1 min', null
  from generate_series(1, 5000) as n
  union all
  select n, 'executing', 1, array['node', case when n % 5 = 1 then {mine} else {other} end],
    interval '-1 s', null
  from generate_series(1, 500) as n
) as made
"""


def install(connection: psycopg.Connection[Any]) -> None:
    """Our tables, whose statistics change only when a test says so, and our producer."""
    connection.execute(oban.schema.install_sql().encode())
    connection.execute("alter table oban_jobs set (autovacuum_enabled = false)")
    run(connection, PostgresEngine("").register(PRODUCER, 60.0))


def fill(connection: psycopg.Connection[Any], finished: int = FINISHED) -> None:
    statement = sql.SQL(FILL).format(
        finished=sql.Literal(finished),
        mine=sql.Literal(PRODUCER.uuid),
        other=sql.Literal(OTHER),
    )
    connection.execute(statement)


def running_attempts(connection: psycopg.Connection[Any]) -> list[AttemptKey]:
    """What our producer runs."""
    rows = connection.execute(
        "select id, attempt from oban_jobs where state = 'executing' and queue = 'q1' order by id"
    )
    return [(identity, attempt) for identity, attempt in rows.fetchall()]


def run(connection: psycopg.Connection[Any], operation: Any) -> Any:
    """Carry out an operation on a connection of the test's own."""
    return drive_sync(operation, SyncPsycopg(connection))
