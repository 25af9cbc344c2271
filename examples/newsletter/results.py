"""How the issue went, read from the rows: jobs are a table, and plain SQL answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row, tuple_row

from examples.newsletter.mail_server import Received

PREFIX = "newsletter"

#: Jobs by queue and state.
Counts = dict[tuple[str, str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mails:
    """How many jobs of the mailers came to what. Times are in seconds."""

    sent: int
    retried: int
    snoozed: int
    cancelled: int
    discarded: int
    start_median: float
    start_p95: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    path: str
    width: int
    height: int
    bytes: int
    #: Seconds from enqueue to start.
    start_delay: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    subscribers: int
    enqueue_seconds: float
    seconds: float
    mails: Mails
    reports: list[Report]
    #: Mails the server accepted, and whether they are the completed jobs, one to one.
    accepted: int
    one_to_one: bool


# A job that was tried again shows its latest start, so only first starts are measured.
MAILS = """
    select
      count(*) filter (where state = 'completed') as sent,
      count(*) filter (where attempt > 1) as retried,
      count(*) filter (where meta ? 'snoozed') as snoozed,
      count(*) filter (where state = 'cancelled') as cancelled,
      count(*) filter (where state = 'discarded') as discarded,
      coalesce(percentile_cont(0.5) within group (order by delay) filter (where first), 0)
        as start_median,
      coalesce(percentile_cont(0.95) within group (order by delay) filter (where first), 0)
        as start_p95
    from newsletter.oban_jobs
    cross join lateral (
      select
        cast(extract(epoch from attempted_at - inserted_at) as float8) as delay,
        attempt = 1 and not meta ? 'snoozed' as first
    ) as start
    where queue = 'mailers'
"""

DELIVERED = """
    select split_part(args->>'email', '@', 2), count(*)
    from newsletter.oban_jobs
    where queue = 'mailers' and state = 'completed'
    group by 1
"""

COMPLETED = """
    select args->>'email', '<' || id || '@newsletter.example>'
    from newsletter.oban_jobs
    where queue = 'mailers' and state = 'completed'
"""


async def counts(connection: AsyncConnection[Any]) -> Counts:
    query = "select queue, state::text, count(*) from newsletter.oban_jobs group by 1, 2"
    rows = await connection.execute(query)
    return {(queue, state): count async for queue, state, count in rows}


async def mails(connection: AsyncConnection[Any]) -> Mails:
    async with connection.cursor(row_factory=class_row(Mails)) as cursor:
        found = await (await cursor.execute(MAILS)).fetchone()
    assert found is not None
    return found


async def delivered(connection: AsyncConnection[Any]) -> dict[str, int]:
    """Completed mails by domain."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        return dict(await (await cursor.execute(DELIVERED)).fetchall())


async def is_one_to_one(connection: AsyncConnection[Any], received: Sequence[Received]) -> bool:
    """Whether each completed job is one mail at the server, and no address got two."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        completed = await (await cursor.execute(COMPLETED)).fetchall()
    arrived = [(each.recipient, each.message_id) for each in received]
    addresses = {recipient for recipient, _ in arrived}
    return sorted(arrived) == sorted(completed) and len(addresses) == len(arrived)
