"""`oban top`: what is seen of a node that runs, on a terminal of any size and elsewhere."""

import asyncio
import os
import re
import signal
import subprocess
import termios
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.cli.application import Application
from tests.cli.conftest import Command, Insert
from tests.cli.terminal import Terminal, terminal
from tests.faults.processes import OBAN, Process
from tests.faults.proxy import Proxy

from oban import Job, JobState
from oban.cli.looker import Look
from oban.cli.top_view import SORTS, Shown, screen
from oban.engines.nodes import KnownProducer
from oban.engines.runs import ProducerIdentity
from oban.looking.census import Census
from oban.looking.paces import Pace
from oban.looking.processes import processes
from oban.looking.queues import queue_rows
from oban.queue_control import queue_info
from oban.schema import SchemaStatus

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
PLACE = SchemaStatus("17.0", "shop", "public", "own", 18, 18, (), False, False, None)
ALTERNATE, NORMAL = "\x1b[?1049h", "\x1b[?1049l"
CURSOR = "\x1b[?25h"


@pytest.fixture
async def node(application: Application, oban_dsn: str) -> AsyncIterator[Process]:
    application.write("oban.toml", "metrics = { interval = 0.2 }\nrefresher = { interval = 0.3 }\n")
    arguments = ["--dsn", oban_dsn, "--queues", "default:2,mailers:5", "--node", "web-1"]
    async with application.start(*arguments, "--log-format", "text") as process:
        await process.line("is running")
        yield process


async def until(look: Callable[[], Any], found: Callable[[Any], bool]) -> Any:
    ends = time.monotonic() + 20
    while not found(seen := await asyncio.to_thread(look)):
        assert time.monotonic() < ends, seen
    return seen


async def test_a_program_is_told_all_of_it_in_a_document(
    command: Command, oban_dsn: str, node: Process, application: Application
) -> None:
    application.enqueue(oban_dsn, *["Patient"] * 3)
    application.enqueue(oban_dsn, *["quick"] * 4, queue="mailers")
    seen = await until(
        lambda: command("top", "--json", "--dsn", oban_dsn).json,
        lambda seen: (
            any(each["per_minute"] for each in seen["queues"])
            and any(each["running"] == 2 for each in seen["processes"])
        ),
    )
    assert (seen["leader"], seen["is_estimate"]) == ("web-1", False)
    assert seen["states"] == {"available": 1, "executing": 2, "completed": 4}
    (process,) = seen["processes"]
    assert (process["alive"], process["leads"], process["limit"]) == (True, True, 7)
    default, mailers = seen["queues"]
    assert (default["queue"], default["running"], default["limit"]) == ("default", 2, 2)
    assert default["counts"] == {"available": 1, "executing": 2}
    assert 0 < default["oldest"] < 60
    assert 0 < mailers["per_minute"] <= 4
    assert mailers["errors_per_minute"] == 0
    first, second = seen["slowest"]
    assert [first["id"], second["id"]] == [1, 2]
    assert first["running_for"] >= second["running_for"] > 0
    assert (first["worker"], first["node"]) == ("jobs_of_mine.Patient", "web-1")


def test_without_a_terminal_one_look_is_printed(oban: Command, insert: Insert) -> None:
    insert()
    insert(state="executing", attempt=1, attempted_by=["web-9", "x"], worker="app.Slow")
    ran = oban("top")
    assert (ran.code, ran.err) == (0, "")
    assert ALTERNATE not in ran.out
    lines = ran.out.splitlines()
    assert re.match(
        r"oban top  database oban_test_\w+, schema public  nobody leads  \d\d:", lines[0]
    )
    assert lines[1] == "nodes  0 alive"
    assert lines[2] == "jobs   1 available  1 executing"
    assert lines[4].split() == [
        *("queue", "state", "running", "available", "oldest", "per", "min", "errors", "per", "min")
    ]
    assert lines[5].split()[:4] == ["default", "not", "run", "1"]
    assert lines[8].split()[-4:] == ["app.Slow", "default", "web-9", "1/20"]
    assert all(line == line.rstrip() for line in lines)


def test_an_empty_table_is_said_to_be_one(oban: Command) -> None:
    assert oban("top", "--once").out.splitlines()[2:] == [
        *("jobs   none", "", "no queues", "", "no job runs")
    ]


class Watched:
    """A person in front of `oban top`."""

    def __init__(self, screen: Terminal) -> None:
        self.screen = screen

    @property
    def lines(self) -> list[str]:
        """What is on the screen: whatever was drawn last, from the corner on."""
        last = self.screen.output.split("\x1b[H")[-1]
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", last).replace("\r", "").split("\n")

    def sees(self, what: Callable[[list[str]], bool]) -> list[str]:
        ends = time.monotonic() + 20
        while not what(self.lines):
            assert time.monotonic() < ends, "\n".join(self.lines)
            before = len(self.screen.output)
            try:
                self.screen.read("\0", timeout=0.1)  # nothing prints it
            except AssertionError:
                assert self.screen.process.poll() is None, self.screen.output[before:]
        return self.lines


@pytest.fixture
def watched(oban_dsn: str, insert: Insert, tmp_path: Path) -> Iterator[Watched]:
    for number in range(30):
        insert(queue=f"queue-{number:02}")
        insert(state="executing", attempt=1, attempted_by=["web-1", "x"], queue="busy")
    command = (OBAN, "top", "--dsn", oban_dsn, "--interval", "0.3")
    with terminal(*command, cwd=tmp_path, size=(90, 24)) as found:
        yield Watched(found)


def is_drawn(width: int, height: int) -> Callable[[list[str]], bool]:
    return lambda lines: [len(line) for line in lines] == [width] * height and "quit" in lines[-1]


def test_it_fits_the_terminal_and_follows_its_size(watched: Watched) -> None:
    for width, height in ((90, 24), (50, 14), (160, 50)):
        watched.screen.resize(width, height)
        lines = watched.sees(is_drawn(width, height))
        assert lines[0].startswith("oban top  database")
        assert any("… " in line and " more" in line for line in lines)
    output = watched.screen.output
    assert output.count(ALTERNATE) == 1
    assert "\x1b[2J" not in output, "it clears the screen, which flickers"


def test_keys_sort_pause_and_quit(watched: Watched) -> None:
    watched.sees(is_drawn(90, 24))
    watched.screen.press("s")
    watched.sees(lambda lines: "sort: available" in lines[-1])
    watched.screen.press("\x1b[A")
    watched.screen.press("P")
    watched.sees(lambda lines: "paused" in lines[-1])
    watched.screen.press("p")
    watched.sees(lambda lines: "paused" not in lines[-1])
    watched.screen.press("q")
    assert watched.screen.exited() == 0


def modes(screen: Terminal) -> Any:
    return termios.tcgetattr(screen.screen)


@pytest.mark.parametrize("end", ["q", "\x03", signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_given_back_as_it_was(
    oban_dsn: str, tmp_path: Path, end: str | signal.Signals
) -> None:
    with terminal(OBAN, "top", "--dsn", oban_dsn, cwd=tmp_path, size=(90, 24)) as screen:
        before = modes(screen)
        watched = Watched(screen)
        watched.sees(is_drawn(90, 24))
        assert modes(screen) != before
        if isinstance(end, str):
            screen.press(end)
        else:
            screen.process.send_signal(end)
        assert screen.process.wait(timeout=10) == 0
        assert modes(screen) == before
        screen.read()
    assert screen.output.endswith(CURSOR + NORMAL)
    assert "Traceback" not in screen.output


def test_it_can_be_suspended_and_comes_back(watched: Watched) -> None:
    watched.sees(is_drawn(90, 24))
    process = watched.screen.process
    process.send_signal(signal.SIGTSTP)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    watched.screen.read(NORMAL)
    process.send_signal(signal.SIGCONT)
    ends = time.monotonic() + 20
    while watched.screen.output.count(ALTERNATE) < 2:
        assert time.monotonic() < ends
        watched.sees(is_drawn(90, 24))
        with pytest.raises(AssertionError):
            watched.screen.read("\0", timeout=0.1)
    watched.screen.press("q")
    assert watched.screen.exited() == 0


async def test_an_outage_is_told_in_place_until_it_is_over(oban_dsn: str, tmp_path: Path) -> None:
    async with Proxy(oban_dsn) as proxy:
        command = (OBAN, "top", "--dsn", proxy.dsn(), "--interval", "0.3")
        with terminal(*command, cwd=tmp_path, size=(90, 24)) as screen:
            watched = Watched(screen)
            await asyncio.to_thread(watched.sees, is_drawn(90, 24))
            proxy.refuse()
            proxy.cut_all()
            lost = await asyncio.to_thread(
                watched.sees, lambda lines: "cannot connect to the database" in lines[3]
            )
            assert lost[0].startswith("oban top  database")
            assert "quit" in lost[-1]
            proxy.accept()
            await asyncio.to_thread(watched.sees, lambda lines: not lines[3].strip())
            proxy.refuse()
            proxy.cut_all()
            await asyncio.to_thread(watched.sees, lambda lines: "cannot connect" in lines[3])
            screen.press("q")
            began = time.monotonic()
            assert await asyncio.to_thread(screen.exited) == 0
            assert time.monotonic() - began < 5
    assert "Traceback" not in screen.output


def test_a_terminal_that_can_do_nothing_gets_one_look(oban_dsn: str, tmp_path: Path) -> None:
    command = (OBAN, "top", "--dsn", oban_dsn)
    with terminal(*command, cwd=tmp_path, env={"TERM": "dumb"}, size=(90, 24)) as screen:
        assert screen.exited() == 0
    assert "jobs   none" in screen.output
    assert ALTERNATE not in screen.output


def test_no_database_is_an_error_from_the_beginning(tmp_path: Path) -> None:
    command = [str(OBAN), "top", "--dsn", "postgresql://nobody@127.0.0.1:1/none"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: cannot connect")


# What is drawn, without a terminal


def look(queue_count: int = 2, job_count: int = 2) -> Look:
    counts = {f"queue-{n}": {"available": n, "executing": 1} for n in range(queue_count)}
    known = [
        KnownProducer(
            ProducerIdentity(f"c0ffee00-0000-4000-8000-00000000000{n}", "Oban", node, "queue-0"),
            NOW,
            1,
            {"limit": 5, "running": [1], "running_count": 1, "leader": node == "web-2", "pid": n},
            age,
            10.0,
        )
        for n, (node, age) in enumerate((("web-1", 1.0), ("web-2", 2.0), ("web\n3", 40.0)))
    ]
    return Look(
        NOW,
        Census(
            {"available": 3, "brandnew": 1}, counts, is_estimate=True, taken_at=time.monotonic()
        ),
        processes(known),
        list(queue_rows(counts, [queue_info(each) for each in known]).values()),
        {"queue-0": Pace(1234.4, 2)},
        [running(n) for n in range(job_count)],
    )


def running(number: int) -> Job:
    job = Job(worker="app.reports.Quarterly\nReport" + "s" * 90, queue="q\x1b[2J")
    job.id, job.state, job.attempt = number, JobState.EXECUTING, 1
    job.attempted_at = NOW - timedelta(minutes=number)
    job.attempted_by = ["web-1", "x"]
    return job


def drawn(seen: Look | None, shown: Shown, width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(screen(seen, shown, width, height))
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [20, 33, 50, 80, 140])
@pytest.mark.parametrize("height", [10, 14, 24, 60])
@pytest.mark.parametrize(("queues", "jobs"), [(0, 0), (1, 0), (0, 3), (3, 1), (40, 50)])
def test_whatever_there_is_has_as_many_lines_as_the_terminal(
    width: int, height: int, queues: int, jobs: int
) -> None:
    lines = drawn(look(queues, jobs), Shown(PLACE, trouble="for 3 s: gone"), width, height)
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    assert "\x1b[2J" not in "".join(lines)


def test_nodes_states_and_numbers_are_told() -> None:
    lines = drawn(look(), Shown(PLACE), 140, 24)
    assert lines[0].split("  ")[1:3] == ["database shop, schema public", "leader web-2"]
    assert lines[1] == "nodes  2 alive, 1 silent  web-1 1/5  web-2 1/5  web 3 silent 40 s"
    assert lines[2] == "jobs   about  3 available  1 brandnew"
    assert lines[5].split() == ["queue-0", "running", "2/10", "0", "1,234", "2"]
    assert lines[6].split() == ["queue-1", "not", "run", "1"]
    assert lines[9].split()[:3] == ["0", "µs", "0"]
    assert lines[10].split()[:3] == ["1", "min", "1"]


@pytest.mark.parametrize("sort", list(SORTS))
def test_queues_are_sorted(sort: str) -> None:
    first = drawn(look(), Shown(PLACE, sort), 140, 24)[5].split()[0]
    assert first == ("queue-1" if sort == "available" else "queue-0")


def test_before_the_first_look_there_is_a_title() -> None:
    lines = drawn(None, Shown(PLACE, trouble="for 1 s: gone"), 80, 24)
    assert lines == ["oban top  database shop, schema public", "for 1 s: gone"]
