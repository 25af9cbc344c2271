"""The quick start as a newcomer meets it: one file in an empty folder, started with Python."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.docs.pages import titled

from oban import embedded

PATIENCE = 30


def start(*command: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )


def stopped(process: subprocess.Popen[str]) -> str:
    """Ask it to stop as Ctrl-C does; return what it said on stderr."""
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    return errors


def test_the_quick_start_is_one_file_of_under_thirty_lines() -> None:
    assert len(titled("README.md", "app.py").splitlines()) < 30


@pytest.mark.smoke
def test_the_quick_start_runs_as_it_is_written_and_again(place: Path) -> None:
    (place / "app.py").write_text(titled("README.md", "app.py"), "utf-8")
    for _ in range(2):
        process = start("app.py", folder=place)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "To ada@example.com: Hello!\n"
            assert stopped(process) == ""
        finally:
            process.kill()
        assert process.returncode == 0


#: The account's own server is not for tests: the same call, for another folder.
ELSEWHERE = """
import functools, pathlib, runpy, sys
from oban import embedded
embedded.start = functools.partial(embedded.start, pathlib.Path(sys.argv[1]), durable=False)
runpy.run_path("app.py", run_name="__main__")
"""


def test_without_a_database_the_quick_start_brings_its_own(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OBAN_DSN")
    (place / "app.py").write_text(titled("README.md", "app.py"), "utf-8")
    with open_folder() as folder:
        process = start("-c", ELSEWHERE, str(folder), folder=place)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "To ada@example.com: Hello!\n"
            assert stopped(process) == ""
        finally:
            process.kill()
        assert embedded.stop(folder), "its server was stopped with it"


@contextmanager
def open_folder() -> Iterator[Path]:
    """A path that the server's account may enter; pytest's own is closed to it for root."""
    base = Path(tempfile.mkdtemp(prefix="oban-test-", dir="/tmp"))
    base.chmod(0o755)
    yield base / "postgresql"
    shutil.rmtree(base)


def test_the_page_begins_with_the_same_file() -> None:
    assert titled("docs/quickstart.md", "app.py") == titled("README.md", "app.py")


def test_the_page_goes_on_with_a_node_that_finds_the_workers(installed_place: Path) -> None:
    for title in ("workers.py", "send.py"):
        (installed_place / title).write_text(titled("docs/quickstart.md", title), "utf-8")
    node = start("-m", "oban", "start", "--queues", "mailers:20", folder=installed_place)
    try:
        sender = start("send.py", "grace@example.com", folder=installed_place)
        said, errors = sender.communicate(timeout=PATIENCE)
        assert "worker='workers.MailerWorker', queue='mailers'" in said, errors
        assert node.stdout is not None
        assert node.stdout.readline() == "To grace@example.com: News\n"
        stopped(node)
    finally:
        node.kill()
    assert node.returncode == 0
