"""`oban start` as a process: what it says, and how it refuses."""

import asyncio
import json
import socket
from collections.abc import Iterator

import pytest
from tests.cli.application import Application, rows
from tests.cli.conftest import Command
from tests.faults.processes import Process

DATABASE = "--queues", "default:10"


def events(process: Process) -> list[dict[str, object]]:
    """Every line it printed, each of them JSON."""
    return [json.loads(line) for line in process.output.splitlines()]


async def test_the_banner_says_what_runs(application: Application, oban_dsn: str) -> None:
    async with application.start(
        *("--dsn", oban_dsn, "--queues", "default:10,mailers:5", "--node", "web-1"),
        *("--shutdown-grace-period", "3", "--log-format", "text"),
    ) as process:
        await process.line("waits up to 3 s for running jobs")
        shown = process.output
        assert all(line == line.rstrip() for line in shown.splitlines())
        assert "oban      0." in shown
        assert "default 10, mailers 5" in shown
        assert f"web-1, pid {process.pid}" in shown
        assert "schema public at version" in shown
        assert "***" in shown or "@" not in oban_dsn
        assert "5: jobs_of_mine.Blocking, jobs_of_mine.Patient" in shown
        process.terminate()
        assert await process.exited() == 0
    assert "SIGTERM: stopping, nothing is running" in process.output
    assert "stopped after 0." in process.output
    assert "\x1b" not in process.output


@pytest.mark.hears("who hears nothing says so")
async def test_elsewhere_every_line_is_json(application: Application, oban_dsn: str) -> None:
    application.write("broken.py", "from oban import job\n1 / 0\n@job()\ndef x(): ...\n")
    application.enqueue(oban_dsn, "quick")
    async with application.start("--dsn", oban_dsn, *DATABASE) as process:
        await process.line('"oban.job.stop"')
        process.terminate()
        assert await process.exited() == 0
    told = {event["event"]: event for event in events(process)}
    assert list(told) == [
        "oban.node.warning",
        "oban.leader.change",
        "oban.node.start",
        "oban.job.start",
        "oban.job.stop",
        "oban.node.stopping",
        "oban.node.stop",
    ]
    assert told["oban.node.start"]["queues"] == {"default": 10}
    assert told["oban.node.start"]["pid"] == process.pid
    assert told["oban.node.stopping"]["signal"] == "SIGTERM"


async def test_what_libraries_log_is_in_the_same_form(
    application: Application, oban_dsn: str
) -> None:
    application.write(
        "talking.py",
        """
        import logging, warnings
        from oban import job
        logging.getLogger("library").warning("hello %s", "there")
        warnings.warn("old", stacklevel=1)
        @job()
        def talk(): ...
        """,
    )
    async with application.start("--dsn", oban_dsn, *DATABASE) as process:
        await process.line('"oban.node.start"')
        process.terminate()
        await process.exited()
    lines = {event["logger"]: event for event in events(process) if "logger" in event}
    assert lines["library"]["message"] == "hello there"
    assert "UserWarning: old" in str(lines["py.warnings"]["message"])


async def test_the_level_hides_what_is_below(application: Application, oban_dsn: str) -> None:
    application.enqueue(oban_dsn, "quick")
    async with application.start(
        "--dsn", oban_dsn, *DATABASE, "--log-level", "WARNING", "--log-format", "text"
    ) as process:
        await process.line("waits up to")
        async with asyncio.timeout(10):
            while rows(oban_dsn)[0][1] != "completed":
                await asyncio.sleep(0.01)
        process.terminate()
        assert await process.exited() == 0
    assert "jobs_of_mine.quick #" not in process.output


async def test_missing_tables_are_one_message(application: Application, dsn: str) -> None:
    async with application.start("--dsn", dsn, *DATABASE) as process:
        assert await process.exited() == 1
    (line,) = process.output.splitlines()
    assert line.startswith("error: there are no Oban tables in database")
    assert "run `oban install`" in line


async def test_a_password_is_in_no_output(application: Application, dsn: str) -> None:
    wrong = "postgresql://joe:s3cret@127.0.0.1:1/x"
    async with application.start("--dsn", wrong, *DATABASE, "--log-level", "debug") as process:
        assert await process.exited() == 1
    assert "error: cannot connect to postgresql://joe:***@127.0.0.1:1/x" in process.output
    assert "s3cret" not in process.output


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def dsn_of(server: socket.socket) -> str:
    return f"postgresql://127.0.0.1:{server.getsockname()[1]}/x"


async def test_a_server_that_never_answers_does_not_hold_the_exit(
    application: Application, silent: socket.socket
) -> None:
    dsn = f"{dsn_of(silent)}?connect_timeout=60"
    async with application.start("--dsn", dsn, *DATABASE) as process:
        async with asyncio.timeout(20):
            connection, _ = await asyncio.get_running_loop().sock_accept(silent)
        with connection:
            assert process.returncode is None
            process.terminate()
            assert await process.exited(timeout=5) == 0
    assert "Traceback" not in process.output


@pytest.mark.slow
async def test_a_server_that_never_answers_is_an_error_in_the_end(
    application: Application, silent: socket.socket
) -> None:
    async with application.start(
        "--dsn", f"{dsn_of(silent)}?connect_timeout=2", *DATABASE
    ) as process:
        assert await process.exited(timeout=25) == 1
    assert process.output.startswith("error: cannot connect to postgresql://127.0.0.1")
    assert "Traceback" not in process.output


def test_a_configuration_with_a_typo_names_it(application: Application, command: Command) -> None:
    application.write("oban.toml", 'dsn = "dbname=x"\n\nshutdown_grase_period = 3\n')
    ran = command("start", *DATABASE)
    assert ran.code == 2
    assert "oban.toml, line 3" in ran.err
    assert "shutdown_grace_period" in ran.err


def test_a_service_without_a_dsn_refuses_to_start(command: Command) -> None:
    ran = command("start", *DATABASE)
    assert ran.code == 2
    assert ran.err.startswith("error: no database is configured")


async def test_a_module_that_was_named_must_be_importable(
    application: Application, oban_dsn: str
) -> None:
    application.write("broken.py", "1 / 0")
    async with application.start("--dsn", oban_dsn, *DATABASE, "--modules", "broken") as process:
        assert await process.exited() == 1
    assert "broken, which cannot be imported: ZeroDivisionError" in process.output
    assert "Traceback" not in process.output


async def test_jobs_find_a_worker_in_a_folder_that_is_not_here(
    application: Application, oban_dsn: str
) -> None:
    """A worker that is imported when a job names it, since nothing in its file is decorated."""
    application.write(
        "inner/late.py",
        """
        import oban
        def make(name):
            return oban.worker(queue="default")(name)
        @make
        class Late:
            async def process(self, job): ...
        """,
    )
    application.enqueue(oban_dsn, "late.Late")
    async with application.start("--dsn", oban_dsn, *DATABASE, "--app-dir", "inner") as process:
        await process.line('"oban.job.stop".*"state": "completed"')
        process.terminate()
        assert await process.exited() == 0
