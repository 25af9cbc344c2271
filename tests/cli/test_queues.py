"""`oban queues`: what is seen and commanded from a terminal, beside a node that runs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from tests.cli.conftest import Command, Ran

from oban import Oban
from oban.cli.failures import WrongUsage
from oban.cli.queues import parse_until


@pytest.fixture
async def node(oban_dsn: str) -> AsyncIterator[Oban]:
    async with Oban(pool=oban_dsn, queues={"default": 4, "mailers": 2}, node="web-1") as oban:
        yield oban


def beside(command: Command, dsn: str) -> Callable[..., Awaitable[Ran]]:
    """The commands on a thread: each has an event loop of its own."""

    async def run(*arguments: str) -> Ran:
        return await asyncio.to_thread(command, *arguments, "--dsn", dsn)

    return run


async def test_a_command_holds_and_is_shown(command: Command, oban_dsn: str, node: Oban) -> None:
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
    assert "paused true, for 1 h 59 min more" in text or "paused true, for 2 h more" in text
    assert "silent" not in text


async def test_a_forecast_tells_of_each_queue(command: Command, oban_dsn: str, node: Oban) -> None:
    oban = beside(command, oban_dsn)
    shown = (await oban("queues", "forecast", "--within", "30", "--json")).json
    assert shown["within"] == 30
    assert {name: each["limit"] for name, each in shown["queues"].items()} == {
        "default": 4, "mailers": 2,
    }  # fmt: skip
    lines = (await oban("queues", "forecast")).out.splitlines()
    assert lines[0].split()[:2] == ["queue", "available"]
    assert [each.split()[0] for each in lines[1:]] == ["default", "mailers"]
    wrong = await oban("queues", "forecast", "--within", "0")
    assert wrong.code == 2
    assert "within is 0" in wrong.err


async def test_each_command_is_obeyed_before_it_returns(
    command: Command, oban_dsn: str, node: Oban
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
    ran = await oban("queues", "stop", "extra")
    assert (ran.code, ran.out) == (0, "queue extra: stopped, on all nodes\n")
    assert "no queue extra" not in ran.err
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


async def test_names_that_nobody_answers_to_are_told_with_those_that_live(
    command: Command, oban_dsn: str, node: Oban
) -> None:
    oban = beside(command, oban_dsn)
    ran = await oban("queues", "pause", "mailers", "--node", "WEB-1")
    assert (ran.code, ran.out) == (0, "queue mailers: paused, on node WEB-1\n")
    assert ran.err == (
        "no node runs it now; those that start obey\n"
        "no node WEB-1 lives now; there is node web-1; did you mean web-1?\n"
    )
    ran = await oban("queues", "scale", "mailrs", "3")
    assert ran.code == 0
    assert ran.err.endswith(
        "no queue mailrs runs now; there are queues default, mailers; did you mean mailers?\n"
    )
    assert (await oban("queues", "scale", "zzz", "3")).err.endswith("queues default, mailers\n")


async def test_a_queue_that_is_started_but_paused_is_said_to_be(
    command: Command, oban_dsn: str, node: Oban
) -> None:
    oban = beside(command, oban_dsn)
    assert (await oban("queues", "start", "extra", "--paused")).out == (
        "queue extra: started, on all nodes\n"
    )
    said = (await oban("queues", "start", "extra")).out
    assert said.startswith(
        "queue extra: started, on all nodes, but still paused by a command to all nodes at 20"
    )
    assert said.endswith("; `oban queues resume extra` resumes it\n")
    await oban("queues", "resume", "extra")
    assert (await oban("queues", "start", "extra")).out == "queue extra: started, on all nodes\n"


async def test_a_reset_says_whether_there_was_anything_to_forget(
    command: Command, oban_dsn: str, node: Oban
) -> None:
    oban = beside(command, oban_dsn)
    ran = await oban("queues", "reset", "mailers")
    assert (ran.code, ran.out) == (0, "queue mailers: nothing was commanded of it\n")
    await oban("queues", "pause", "mailers")
    ran = await oban("queues", "reset", "mailers", "--node", "web-1")
    assert ran.out == "queue mailers: nothing was commanded of it for node web-1 alone\n"
    ran = await oban("queues", "reset", "mailers")
    assert ran.out == "queue mailers: as configured, on all nodes\n"
    assert (await oban("queues", "reset", "malers")).err == (
        "no queue malers runs now; there are queues default, mailers; did you mean mailers?\n"
    )


async def test_a_queue_that_is_configured_as_paused_is_said_to_be_so(
    command: Command, oban_dsn: str
) -> None:
    async with Oban(pool=oban_dsn, queues={"quiet": {"limit": 1, "paused": True}}, node="a"):
        said = (await beside(command, oban_dsn)("queues", "start", "quiet")).out
    assert said == (
        "queue quiet: started, on all nodes, but still paused as node a is configured; "
        "`oban queues resume quiet` resumes it\n"
    )


async def test_processes_of_one_node_are_told_apart(
    command: Command, oban_dsn: str, node: Oban
) -> None:
    oban = beside(command, oban_dsn)
    ids = {each["uuid"][:8] for each in (await oban("queues", "list", "--json")).json["queues"]}
    shown = (await oban("queues", "list")).out
    assert len(ids) == 2
    assert all(each in shown for each in ids)
    status = (await oban("status")).out
    assert all(each in status for each in ids)
    assert all(line == line.rstrip() for line in shown.splitlines())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pause"], "name one QUEUE, or give --all"),
        (["pause", "a", "--all"], "name one QUEUE, or give --all"),
        (["pause", "a", "--until", "soon"], "--until is 'soon'"),
        (["pause", "a", "--until", "2001-01-01T00:00"], "2001-01-01T00:00, which is in the past"),
        (["pause", "a", "--until", "2001-01-01T00:00Z"], "or a duration such as 2h"),
        (["pause", "a", "--until", "999999999d"], "which no calendar reaches"),
        (["scale", "a", "0"], "queue.limit is 0"),
        (["scale", "a", "-5"], "queue.limit is -5; it is a whole number from 1"),
        (["scale", "a", "5", "--nod", "b"], "there is no option --nod; did you mean --node?"),
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
    for wrong in ("1w", "0001-01-01T00:00"):
        with pytest.raises(WrongUsage):
            parse_until(wrong)
