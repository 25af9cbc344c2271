import sys

import pytest
from tests.cli.application import Application, rows
from tests.cli.conftest import Command
from tests.faults.processes import Process

pytestmark = pytest.mark.slow


def start(application: Application, dsn: str, *more: str) -> Process:
    return application.start(
        "--reload", "--dsn", dsn, "--queues", "default:5", "--log-format", "text", *more
    )


async def test_a_change_restarts_it_and_gives_its_jobs_back(
    application: Application, oban_dsn: str
) -> None:
    application.enqueue(oban_dsn, "Patient")
    file = application.write("inner/changed.py", "text = 0")
    async with start(application, oban_dsn) as process:
        await process.line("start .* jobs_of_mine.Patient ")
        file.write_text("text = 1")
        await process.line("restarting, 1 file changed: inner/changed.py")
        await process.line("waits up to 1 s for running jobs", count=2)
        await process.line(r"start .* jobs_of_mine.Patient #\d+ 1/20", count=2)
        process.terminate()
        assert await process.exited() == 0
    assert [row[1:3] for row in rows(oban_dsn)] == [("available", 0)]


async def test_code_that_fails_waits_for_its_repair(
    application: Application, oban_dsn: str
) -> None:
    file = application.write("named.py", "1 / 0\n")
    async with start(application, oban_dsn, "--modules", "named") as process:
        await process.line("it ended with code 1; waiting for a change")
        file.write_text("from oban import job\n@job()\ndef one(): ...\n")
        await process.line("1: named.one")
        process.terminate()
        assert await process.exited() == 0


async def test_its_node_ends_with_it_however_it_ends(
    application: Application, oban_dsn: str
) -> None:
    async with start(application, oban_dsn) as process:
        pid = int((await process.line(r", pid (\d+)"))[1])
        assert pid != process.pid
        process.kill()
        await process.line("SIGTERM: stopping")
        await process.line("stopped after")


def test_a_missing_package_says_how_to_get_it(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    ran = command("start", "--reload", "--dsn", "dbname=x", "--queues", "a")
    assert ran.code == 1
    assert "pip install 'oban[reload]'" in ran.err
    assert "Traceback" not in ran.err
