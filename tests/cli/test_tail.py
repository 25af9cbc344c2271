"""`oban jobs tail`: each job that ends is told once, however it ended and whoever reads it."""

import json
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.cli.application import Application
from tests.cli.conftest import Command, Insert
from tests.cli.terminal import terminal
from tests.faults.processes import OBAN, Process
from tests.faults.proxy import Proxy

from oban import Job, JobState
from oban.cli import following, tail
from oban.cli.following import ENDS, Follower
from oban.engines.browsing import JobSearch
from oban.engines.postgres import PostgresEngine

ENDINGS = """
from oban import Cancel, Discard, worker

@worker(queue="default", max_attempts=3)
class Ending:
    async def process(self, job):
        match job.args["how"]:
            case "cancel":
                return Cancel("nobody wants it")
            case "discard":
                return Discard("it is no use")
            case "fail":
                raise ValueError("no such user\\nat all")
"""


@pytest.fixture
async def follower(engine: PostgresEngine) -> AsyncIterator[Follower]:
    session = engine.session("follower")
    follower = Follower(engine, session, JobSearch(), ENDS)
    yield follower
    await session.close()


def told(jobs: Any) -> list[tuple[int, str]]:
    return [(job.id, str(job.state)) for job in jobs]


def ago(seconds: float) -> datetime:
    return datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=seconds)


async def test_what_ended_before_is_not_told_and_what_ends_then_is_once(
    follower: Follower, insert: Insert
) -> None:
    insert(state="completed", completed_at=ago(1))
    await follower.begin()
    assert (await follower.look()).jobs == []
    discarded = insert(state="discarded", discarded_at=ago(0.1))
    completed = insert(state="completed", completed_at=ago(0.3))
    cancelled = insert(state="cancelled", cancelled_at=ago(0.2))
    insert(state="executing", attempted_at=ago(0.2))
    assert told((await follower.look()).jobs) == [
        (completed, "completed"),
        (cancelled, "cancelled"),
        (discarded, "discarded"),
    ]
    assert (await follower.look()).jobs == []


async def test_an_end_that_is_committed_late_is_told(
    follower: Follower, insert: Insert, oban_dsn: str
) -> None:
    await follower.begin()
    with psycopg.connect(oban_dsn) as slow:
        slow.execute(
            "insert into oban_jobs (worker, state, completed_at) values ('app.Slow', 'completed', "
            "timezone('UTC', clock_timestamp()))"
        )
        insert(state="completed", completed_at=ago(0))
        assert len((await follower.look()).jobs) == 1
        assert (await follower.look()).jobs == []
        slow.commit()
    (late,) = (await follower.look()).jobs
    assert late.worker == "app.Slow"
    assert (await follower.look()).jobs == []


@pytest.mark.parametrize("began", [0.5, 3_600])
async def test_a_job_that_failed_is_told_however_long_it_ran(
    follower: Follower, insert: Insert, oban_dsn: str, began: float
) -> None:
    running = insert(state="executing", attempt=1, attempted_at=ago(began))
    await follower.begin()
    with psycopg.connect(oban_dsn) as connection:
        connection.execute(
            "update oban_jobs set state = 'retryable', "
            "scheduled_at = timezone('UTC', now()) + interval '1 hour'"
        )
    assert told((await follower.look()).jobs) == [(running, "retryable")]
    assert (await follower.look()).jobs == []
    with psycopg.connect(oban_dsn) as connection:
        connection.execute("update oban_jobs set state = 'executing', attempt = 2")
    assert (await follower.look()).jobs == []
    with psycopg.connect(oban_dsn) as connection:
        connection.execute("update oban_jobs set state = 'retryable'")
    assert told((await follower.look()).jobs) == [(running, "retryable")]
    with psycopg.connect(oban_dsn) as connection:  # it runs and fails from one look to the next
        connection.execute(
            "update oban_jobs set attempt = 3, attempted_at = timezone('UTC', now())"
        )
    await follower.look()
    with psycopg.connect(oban_dsn) as connection:
        connection.execute("update oban_jobs set attempt = 4")
    assert [job.attempt for job in (await follower.look()).jobs] == [4]
    assert (await follower.look()).jobs == []


async def test_a_look_that_failed_loses_nothing(
    follower: Follower, insert: Insert, monkeypatch: pytest.MonkeyPatch, oban_dsn: str
) -> None:
    running = insert(state="executing", attempt=1, attempted_at=ago(3_600))
    await follower.begin()
    ended = insert(state="completed", completed_at=ago(0))
    with psycopg.connect(oban_dsn) as connection:
        connection.execute("update oban_jobs set state = 'retryable' where id = %s", [running])

    async def fail(_: object) -> Any:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(follower, "get", fail)
        with pytest.raises(ConnectionError):
            await follower.look()
    assert dict(told((await follower.look()).jobs)) == {running: "retryable", ended: "completed"}


async def test_of_many_the_last_are_told_and_the_others_counted(
    follower: Follower, insert: Insert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "MOST_TOLD", 2)
    await follower.begin()
    ids = [insert(state="completed", completed_at=ago(1 - n / 10)) for n in range(5)]
    failed = insert(state="discarded", discarded_at=ago(2))
    ended = await follower.look()
    assert told(ended.jobs) == [
        (failed, "discarded"), (ids[3], "completed"), (ids[4], "completed")
    ]  # fmt: skip
    assert ended.more == {"completed": 3}
    ended = await follower.look()
    assert (ended.jobs, ended.more) == ([], {})


@pytest.fixture
async def node(application: Application, oban_dsn: str) -> AsyncIterator[Process]:
    application.write("endings.py", ENDINGS)
    arguments = ["--dsn", oban_dsn, "--queues", "default:4", "--node", "web-1"]
    async with application.start(*arguments, "--log-format", "text") as process:
        await process.line("is running")
        yield process


def tailing(dsn: str, folder: Path, *options: str) -> Process:
    return Process(OBAN, "jobs", "tail", "--dsn", dsn, *options, log=folder / "tail", cwd=folder)


def enqueue(insert: Insert, **columns: Any) -> int:
    return insert(worker="endings.Ending", max_attempts=3, **columns)


async def test_the_ends_of_real_runs_are_told_in_a_line_each(
    node: Process, oban_dsn: str, insert: Insert, tmp_path: Path
) -> None:
    async with tailing(oban_dsn, tmp_path) as tail:
        await tail.line("jobs that end from now on")
        ids = {how: enqueue(insert, args={"how": how}) for how in ("cancel", "discard", "fail", "")}
        for how, pattern in {
            "": r"completed {} +endings.Ending  default  1/3  ran [\d.]+ .?s  waited [\d.]+ .?s$",
            "cancel": r"cancelled {} +endings.Ending  default  1/3  ran .*  nobody wants it$",
            "discard": r"discarded {} +endings.Ending  default  1/3  ran .*  it is no use$",
            "fail": r"retryable {} +endings.Ending  default  1/3  ran [\d.]+ .?s  at all$",
        }.items():
            await tail.line(r"^\d\d:\d\d:\d\d\.\d{3} " + pattern.format(ids[how]))
        tail.send(signal.SIGINT)
        assert await tail.exited() == 0
    assert len(tail.output.splitlines()) == 5


async def test_a_program_reads_a_document_a_line(
    node: Process, oban_dsn: str, insert: Insert, tmp_path: Path
) -> None:
    async with tailing(oban_dsn, tmp_path, "--json", "--args", "how=fail") as tail:
        await tail.line("jobs that end from now on")
        enqueue(insert, args={"how": ""})
        failed = enqueue(insert, args={"how": "fail"})
        shown = json.loads((await tail.line(r"^\{.*\}$"))[0])
        assert (shown["id"], shown["state"], shown["attempt"]) == (failed, "retryable", 1)
        assert shown["args"] == {"how": "fail"}
        assert shown["attempted_by"][0] == "web-1"
        assert 0 <= shown["ran"] < 10
        (error,) = shown["errors"]
        assert datetime.fromisoformat(shown["ended_at"]) == datetime.fromisoformat(error["at"])
        tail.send(signal.SIGINT)
        assert await tail.exited() == 0
    assert tail.output.count('"id"') == 1


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--queue", "mailers"], [2]),
        (["--worker", "app.Other"], [3]),
        (["--node", "web-1"], [1]),
        (["--state", "discarded", "--state", "cancelled"], [2, 4]),
        (["--tag", "Red"], [3]),
        (["--args", "user_id=42"], [1, 2]),
        (["--args", "user_id=42", "--meta", "vip=true"], [2]),
        (["--priority", "9"], [4]),
    ],
)
def test_filters_choose(
    oban: Command,
    insert: Insert,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    found: list[int],
) -> None:
    last = {"worker": "app.Other", "queue": "mailers", "tags": ["red"], "priority": 9}
    last |= {"args": {"user_id": 42}, "meta": {"vip": True}, "attempted_by": ["web-1", "x"]}
    kinds: list[dict[str, Any]] = [
        {"state": "completed", "args": {"user_id": 42}, "attempted_by": ["web-1", "x"]},
        {
            "state": "discarded",
            "queue": "mailers",
            "args": {"user_id": "42"},
            "meta": {"vip": True},
        },
        {"state": "completed", "worker": "app.Other", "tags": ["red"]},
        {"state": "cancelled", "priority": 9},
        {"state": "discarded", **last},
    ]

    async def look_once(follower: Follower, *, as_json: bool) -> None:
        for each in kinds:
            insert(**each, **{f"{each['state']}_at": ago(0)})
        tail.tell(await follower.look(), as_json=as_json)

    monkeypatch.setattr(tail, "look_again", look_once)
    ran = oban("jobs", "tail", *options)
    assert (ran.code, ran.err) == (0, "jobs that end from now on; Ctrl-C stops\n")
    assert [int(each) for each in re.findall(r" (\d)  app", ran.out)] == [*found, 5]


def test_a_reader_that_leaves_ends_it_quietly(
    oban_dsn: str, insert: Insert, tmp_path: Path
) -> None:
    command = [OBAN, "jobs", "tail", "--dsn", oban_dsn]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, **streams) as tail:  # type: ignore[call-overload]
        assert tail.stderr.readline().startswith("jobs that end")
        insert(state="completed", completed_at=ago(0))
        assert " completed " in tail.stdout.readline()
        tail.stdout.close()
        assert tail.wait(timeout=10) == 0
        assert tail.stderr.read() == ""


def test_a_line_is_cut_where_the_terminal_ends_and_ctrl_c_is_the_end(
    oban_dsn: str, insert: Insert, tmp_path: Path
) -> None:
    command = (OBAN, "jobs", "tail", "--dsn", oban_dsn)
    with terminal(*command, cwd=tmp_path, size=(80, 24)) as screen:
        screen.read("Ctrl-C stops")
        insert(worker=f"app.{'Long' * 30}", state="discarded", discarded_at=ago(0))
        screen.read("…")
        assert "\x1b[31mdiscarded" in screen.output
        screen.press("\x03")
        assert screen.exited() == 0
        assert "Traceback" not in screen.output


async def test_an_outage_is_told_and_what_ended_meanwhile_afterwards(
    oban_dsn: str, insert: Insert, tmp_path: Path
) -> None:
    async with Proxy(oban_dsn) as proxy, tailing(proxy.dsn(), tmp_path) as tail:
        await tail.line("jobs that end from now on")
        proxy.refuse()
        proxy.cut_all()
        await tail.line("warning: .*trying again until it is back")
        missed = insert(state="completed", completed_at=ago(0))
        proxy.accept()
        await tail.line("the database is back")
        await tail.line(rf" completed {missed} ")
    assert tail.output.count("warning") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--state", "executing"], "--state is executing, which is no end of a run; it is one of"),
        (["--args", "user"], "--args is 'user'; it is key=value"),
        (["--args", "ids=[1]"], "--args ids is [1]; it is a text, a number, true or false"),
        (["--limit", "3"], "there is no option --limit"),
    ],
)
def test_wrong_use_is_said(oban: Command, arguments: list[str], said: str) -> None:
    ran = oban("jobs", "tail", *arguments)
    assert ran.code == 2
    assert said in ran.err


def test_a_row_of_somebody_else_is_a_line_too() -> None:
    job = Job.restore(
        id=7,
        state=JobState.DISCARDED,
        queue="a\x1b[2Jb",
        worker="w\nx",
        attempt=3,
        max_attempts=3,
        priority=0,
        args={},
        meta={},
        errors=["no object"],
        tags=[],
        attempted_by=[],
        inserted_at=None,
        scheduled_at=None,
        attempted_at=None,
        completed_at=None,
        cancelled_at=None,
        discarded_at=None,
    )
    assert tail.line(job).plain == "00:00:00.000 discarded 7  w x  a\\x1b[2Jb  3/3"
