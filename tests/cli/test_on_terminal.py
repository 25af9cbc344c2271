"""What a person sees: colours, questions, and the embedded server by default."""

import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from tests.cli.application import Application, rows
from tests.cli.conftest import Insert
from tests.cli.terminal import terminal
from tests.faults.processes import OBAN

COLOUR = "\x1b["


def test_a_listing_is_coloured_on_a_terminal_and_plain_in_a_pipe(
    oban_dsn: str, insert: Insert, tmp_path: Path
) -> None:
    insert(state="completed")
    command = (OBAN, "jobs", "list", "--dsn", oban_dsn)
    with terminal(*command, cwd=tmp_path) as screen:
        shown = screen.read()
        assert screen.exited() == 0
    assert "\x1b[32mcompleted" in shown
    piped = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "completed" in piped.stdout
    assert COLOUR not in piped.stdout + piped.stderr


def test_no_color_is_honoured(oban_dsn: str, insert: Insert, tmp_path: Path) -> None:
    insert(state="completed")
    command = (OBAN, "jobs", "list", "--dsn", oban_dsn)
    with terminal(*command, cwd=tmp_path, env={"NO_COLOR": "1"}) as screen:
        assert "\x1b[32m" not in screen.read()


def test_an_error_is_coloured_on_a_terminal_only(tmp_path: Path) -> None:
    with terminal(OBAN, "jobs", "show", cwd=tmp_path) as screen:
        assert "\x1b[1;31merror: \x1b[0m" in screen.read()
        assert screen.exited() == 2


@pytest.mark.parametrize(
    ("keys", "code", "state"), [("y\r", 0, "cancelled"), ("n\r", 1, "available")]
)
def test_many_jobs_are_changed_when_somebody_says_yes(
    oban_dsn: str, insert: Insert, tmp_path: Path, keys: str, code: int, state: str
) -> None:
    insert()
    insert()
    command = (OBAN, "jobs", "cancel", "--all-matching", "--queue", "default", "--dsn", oban_dsn)
    with terminal(*command, cwd=tmp_path) as screen:
        screen.read("Cancel 2 jobs (")
        screen.press(keys)
        assert screen.exited() == code
    assert [found for _, found, *_ in rows(oban_dsn)] == [state] * 2
    assert ("nothing was changed" in screen.output) == (code == 1)


def test_an_interrupt_at_a_question_changes_nothing(
    oban_dsn: str, insert: Insert, tmp_path: Path
) -> None:
    insert()
    command = (OBAN, "jobs", "delete", "--all-matching", "--dsn", oban_dsn)
    with terminal(*command, cwd=tmp_path) as screen:
        screen.read("Delete 1 job")
        while screen.process.poll() is None:
            screen.process.send_signal(signal.SIGINT)
            # One that comes just before `input` waits is seen only after it.
            with suppress(subprocess.TimeoutExpired):
                screen.process.wait(timeout=2)
        assert screen.exited() in (1, 130)
        assert "Traceback" not in screen.output
    assert len(rows(oban_dsn)) == 1


def test_a_node_logs_coloured_text_on_a_terminal(application: Application, oban_dsn: str) -> None:
    application.enqueue(oban_dsn, "quick")
    command = (OBAN, "start", "--dsn", oban_dsn, "--queues", "default:1")
    with terminal(*command, cwd=application.folder) as screen:
        screen.read("waits up to 15 s")
        screen.read("\x1b[32mok")
        screen.process.send_signal(signal.SIGINT)
        assert screen.exited() == 0
    assert "\x1b[1;32moban" in screen.output
    assert '{"time"' not in screen.output


#: The command, with an embedded server that is nobody else's.
EMBEDDED = """
import functools, sys
from pathlib import Path
from oban import cli, embedded
embedded.start = functools.partial(embedded.start, Path(sys.argv.pop(1)), durable=False)
sys.exit(cli.main())
"""


@pytest.mark.slow
def test_without_a_dsn_a_person_gets_the_embedded_server(
    application: Application, embedded_folder: Path
) -> None:
    command = (sys.executable, "-c", EMBEDDED, embedded_folder, "start")
    with terminal(*command, cwd=application.folder) as screen:
        screen.read("using the embedded PostgreSQL")
        screen.read("waits up to 15 s")
        assert "default 10" in screen.output
        assert re.search(r"postgres:\*\*\*@", screen.output)
        screen.process.send_signal(signal.SIGTERM)
        assert screen.exited() == 0
    assert not (embedded_folder / "data" / "postmaster.pid").exists()


@pytest.mark.slow
def test_at_once_means_the_embedded_server_too(
    application: Application, embedded_folder: Path
) -> None:
    command = (sys.executable, "-c", EMBEDDED, embedded_folder, "start")
    with terminal(*command, cwd=application.folder) as screen:
        screen.read("waits up to 15 s")
        screen.process.send_signal(signal.SIGINT)
        screen.process.send_signal(signal.SIGTERM)
        screen.process.send_signal(signal.SIGINT)
        assert screen.exited() in (0, 130)
    assert not (embedded_folder / "data" / "postmaster.pid").exists()
