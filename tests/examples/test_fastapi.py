"""The web application on a real server: what a request commits, and what it takes back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import psycopg
import pytest
import uvicorn
from examples.fastapi.app import app
from examples.newsletter.mail_server import MailServer
from psycopg.conninfo import conninfo_to_dict

from oban import telemetry

REFUSE_AT_COMMIT = """
    create function refuse() returns trigger language plpgsql as
      $$ begin raise exception 'not today'; end $$;
    create constraint trigger refuse after insert on signups deferrable initially deferred
      for each row execute function refuse();
"""


@pytest.fixture
async def web(
    dsn: str, mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setenv("DATABASE_URL", as_url(dsn))
    monkeypatch.setenv("SMTP_HOST", mail.address)
    async with serving() as url, httpx.AsyncClient(base_url=url) as client:
        yield client


@pytest.fixture
def ended() -> Iterator[asyncio.Queue[str]]:
    """How each job of the application ends, in order."""
    states: asyncio.Queue[str] = asyncio.Queue()
    events = ["oban.job.stop", "oban.job.exception"]
    telemetry.attach("ended", events, lambda _, event: states.put_nowait(event["state"]))
    yield states
    telemetry.detach("ended")


def as_url(dsn: str) -> str:
    """The same DSN in the form that SQLAlchemy reads too."""
    return f"postgresql:///?{urlencode(conninfo_to_dict(dsn), quote_via=quote)}"


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """The application under uvicorn, on a free port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="on", log_level="error"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "the application did not start"
        await asyncio.sleep(0.01)
    try:
        host, port = server.servers[0].sockets[0].getsockname()
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        await task


async def test_a_signup_is_committed_with_its_welcome(
    web: httpx.AsyncClient, dsn: str, mail: MailServer, ended: asyncio.Queue[str]
) -> None:
    answer = await web.post("/signups", json={"email": "ada@post.example"})
    assert answer.status_code == 201
    ids = answer.json()

    assert await ended.get() == "completed"
    assert [each.recipient for each in mail.received] == ["ada@post.example"]
    assert signups(dsn) == [(ids["signup_id"], "ada@post.example")]
    assert jobs(dsn) == [(ids["job_id"], {"email": "ada@post.example"})]


async def test_a_job_can_be_looked_up_until_it_is_completed(
    web: httpx.AsyncClient, ended: asyncio.Queue[str]
) -> None:
    job_id = (await web.post("/signups", json={"email": "ada@post.example"})).json()["job_id"]
    await ended.get()
    async with asyncio.timeout(10):
        while (status := (await web.get(f"/jobs/{job_id}")).json())["state"] == "executing":
            await asyncio.sleep(0.01)  # its end is told before it is saved
    assert status == {
        "id": job_id, "state": "completed", "attempt": 1, "max_attempts": 5, "errors": [],
    }  # fmt: skip


async def test_a_refused_row_leaves_no_job(web: httpx.AsyncClient, dsn: str) -> None:
    await web.post("/signups", json={"email": "ada@post.example"})
    before = signups(dsn), jobs(dsn)
    answer = await web.post("/signups", json={"email": "ada@post.example"})
    assert answer.status_code == 409
    assert (signups(dsn), jobs(dsn)) == before


async def test_a_commit_that_fails_leaves_neither_row_nor_job(
    web: httpx.AsyncClient, dsn: str, mail: MailServer
) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(REFUSE_AT_COMMIT)
    answer = await web.post("/signups", json={"email": "ada@post.example"})
    assert answer.status_code == 500
    assert (signups(dsn), jobs(dsn)) == ([], [])
    assert mail.received == []

    with psycopg.connect(dsn) as connection:
        connection.execute("drop trigger refuse on signups")
    answer = await web.post("/signups", json={"email": "ada@post.example"})
    assert answer.status_code == 201, "it was the commit that failed"


@pytest.mark.parametrize(("path", "status"), [("/jobs/1", 404), ("/jobs/0", 422)])
async def test_a_job_that_cannot_be_is_said_so(
    web: httpx.AsyncClient, path: str, status: int
) -> None:
    assert (await web.get(path)).status_code == status


async def test_a_bad_address_is_refused_before_anything_is_written(
    web: httpx.AsyncClient, dsn: str
) -> None:
    assert (await web.post("/signups", json={"email": "ada"})).status_code == 422
    assert (signups(dsn), jobs(dsn)) == ([], [])


def signups(dsn: str) -> list[tuple[Any, ...]]:
    return rows(dsn, "select id, email from signups order by id")


def jobs(dsn: str) -> list[tuple[Any, ...]]:
    return rows(dsn, "select id, args from oban_jobs order by id")


def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()
