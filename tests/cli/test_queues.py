"""`oban queues`: what is seen and commanded from a terminal, beside a node that runs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from tests.cli.application import Application
from tests.cli.conftest import Command, Ran
from tests.faults.processes import Process

from oban.cli.failures import WrongUsage
from oban.cli.queues import parse_until


@pytest.fixture
async def node(application: Application, oban_dsn: str) -> AsyncIterator[Process]:
    arguments = ["--dsn", oban_dsn, "--queues", "default:4,mailers:2", "--node", "web-1"]
    async with application.start(*arguments, "--log-format", "text") as process:
        await process.line("is running")
        yield process


def beside(command: Command, dsn: str) -> Callable[..., Awaitable[Ran]]:
    """The commands on a thread: each has an event loop of its own."""

    async def run(*arguments: str) -> Ran:
        return await asyncio.to_thread(command, *arguments, "--dsn", dsn)

    return run


async def test_a_command_holds_and_is_shown(command: Command, oban_dsn: str, node: Process) -> None:
    oban = beside(command, oban_dsn)
    ran = await oban("queues", "pause", "mailers", "--until", "2h")
    assert (ran.code, ran.out) == (0, "queue mailers: paused, on all nodes\n")
    shown = (await oban("queues", "list", "--json")).json
    assert {(each["queue"], each["node"], each["paused"]) for each in shown["queues"]} == {
        ("default", "web-1", False),
        ("mailers", "web-1", True),
    }
    (stored,) = shown["commands"]
    assert (stored["queue"], stored["aspect"], stored["value"]) == ("mailers", "paused", True)
    assert 7000 < stored["expires_in"] <= 7200
    text = (await oban("queues", "list")).out
    assert "paused true, for 7" in text
    assert "silent" not in text


async def test_each_command_is_obeyed_before_it_returns(
    command: Command, oban_dsn: str, node: Process
) -> None:
    oban = beside(command, oban_dsn)
    said = [
        (await oban("queues", "scale", "default", "9")).out,
        (await oban("queues", "start", "extra", "--limit", "3", "--paused")).out,
        (await oban("queues", "pause", "--all", "--node", "web-1")).out,
        (await oban("queues", "resume", "--all")).out,
    ]
    assert said == [
        "queue default: scaled to 9 in each process, on all nodes\n",
        "queue extra: started, on all nodes\n",
        "all queues: paused, on node web-1\n",
        "all queues: resumed, on all nodes\n",
    ]
    queues = {
        each["queue"]: each for each in (await oban("queues", "list", "--json")).json["queues"]
    }
    assert {name: each["limit"] for name, each in queues.items()} == {
        "default": 9,
        "extra": 3,
        "mailers": 2,
    }
    assert not any(each["paused"] or each["remarks"] for each in queues.values())
    assert (await oban("queues", "stop", "extra")).code == 0
    assert (
        await oban("queues", "reset", "--all")
    ).out == "all queues: as configured, on all nodes\n"
    left = (await oban("queues", "list", "--json")).json
    assert left["commands"] == []


def test_without_nodes_a_command_is_stored_all_the_same(oban: Command) -> None:
    ran = oban("queues", "pause", "mailers")
    assert ran.out == "queue mailers: paused, on all nodes\n"
    assert "no node runs it now" in ran.err
    assert oban("queues", "list").out.startswith("no node runs a queue\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pause"], "name one QUEUE, or give --all"),
        (["pause", "a", "--all"], "name one QUEUE, or give --all"),
        (["pause", "a", "--until", "soon"], "--until is 'soon'"),
        (["pause", "a", "--until", "2001-01-01T00:00Z"], "in the future"),
        (["scale", "a", "0"], "queue.limit is 0"),
        (["pause", "*"], "or give --all"),
    ],
)
def test_wrong_use_is_said(oban: Command, arguments: list[str], said: str) -> None:
    ran = oban("queues", *arguments)
    assert ran.code == 2
    assert said in ran.err


def test_a_time_to_resume_is_a_length_or_a_moment() -> None:
    assert parse_until("90s") == timedelta(seconds=90)
    assert parse_until("1d") == timedelta(days=1)
    assert parse_until("2030-01-31T08:00+01:00") == datetime(2030, 1, 31, 7, tzinfo=UTC)
    with pytest.raises(WrongUsage):
        parse_until("1w")
