"""What is told of an enqueue, and what handlers send along with its jobs."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from tests.conftest import Event

import oban
from oban import Job, Oban, telemetry, testing
from oban.errors import InvalidJob

CARRIED = {"trace": "1"}
ENQUEUE = "oban.client.enqueue"


@pytest.fixture
def carried() -> Iterator[None]:
    """Somebody who sends something along with every job."""

    def load(_: str, metadata: dict[str, Any]) -> None:
        metadata["meta"].update(CARRIED)

    telemetry.attach("test-carrier", f"{ENQUEUE}.start", load)
    yield
    telemetry.detach("test-carrier")


def job(**options: Any) -> Job:
    return Job(worker="tests.Worker", **options)


@pytest.mark.usefixtures("carried")
async def test_what_is_sent_along_is_stored_with_each_job(client: Oban, oban_dsn: str) -> None:
    await client.enqueue(job())
    await client.enqueue(job(unique=True))
    await client.enqueue_many(job(), [job()])
    await client.enqueue_stream(job() for _ in range(3))
    async with await psycopg.AsyncConnection.connect(oban_dsn) as conn:
        await client.enqueue(job(), conn=conn)
    with psycopg.connect(oban_dsn) as connection:
        rows = connection.execute("select meta->>'trace' from oban_jobs").fetchall()
    assert rows == [("1",)] * 8


@pytest.mark.usefixtures("carried")
def test_it_is_by_sync_calls_too(oban_dsn: str) -> None:
    client = Oban(pool=oban_dsn, name="sync")
    with psycopg.connect(oban_dsn) as conn:
        found = [client.enqueue_sync(job()), *client.enqueue_many_sync(job(), conn=conn)]
    assert [each.meta for each in found] == [CARRIED, CARRIED]


@pytest.mark.usefixtures("carried")
async def test_the_given_jobs_and_their_own_meta_stay_as_they_are(client: Oban) -> None:
    given = job(meta={"trace": "mine", "tenant": 1})
    inserted = await client.enqueue(given)
    assert inserted.meta == given.meta == {"trace": "mine", "tenant": 1}
    plain = job()
    await client.enqueue(plain)
    assert plain.meta == {}


@pytest.mark.usefixtures("carried")
async def test_a_job_that_runs_inline_has_it(client: Oban) -> None:
    found = []

    @oban.job()
    async def look() -> None:
        current = oban.current_job()
        found.append(current and current.meta)

    with testing.mode("inline"):
        await client.enqueue(look.new())
    assert found == [CARRIED]


async def test_an_enqueue_is_told_with_what_the_database_made_of_it(
    client: Oban, events: list[Event]
) -> None:
    await client.enqueue_many(job(), job())
    assert await client.enqueue_stream([job()]) == 1
    with pytest.raises(InvalidJob):
        await client.enqueue(unwritable())
    told = [(name, metadata) for name, metadata in events if name.startswith(ENQUEUE)]
    assert [name.removeprefix(ENQUEUE) for name, _ in told] == [
        ".start", ".stop", ".start", ".stop", ".start", ".exception",
    ]  # fmt: skip
    assert [each.id for each in told[0][1]["jobs"]] == [None, None]
    assert all(each.id for each in told[1][1]["jobs"])
    assert told[1][1]["count"] == 2
    assert told[3][1]["count"] == 1
    assert told[5][1]["error_type"] == "InvalidJob"


def unwritable() -> Job:
    broken = job()
    broken.meta = object()  # type: ignore[assignment]
    return broken


async def test_a_trace_makes_no_job_another_one(client: Oban) -> None:
    unique = {"fields": ["worker", "meta"]}
    first = await client.enqueue(job(unique=unique, meta={"traceparent": "1"}))
    second = await client.enqueue(job(unique=unique, meta={"traceparent": "2", "tracestate": "3"}))
    assert second.conflicted
    assert second.id == first.id
