"""Folders for servers, and processes that own them; none of either is left behind."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from oban import embedded

Spawn = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def base() -> Iterator[Path]:
    """A short path that the server's account may enter; pytest's own is closed to it for root."""
    path = Path(tempfile.mkdtemp(prefix="oban-test-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def fresh(base: Path) -> Iterator[Path]:
    """A folder that does not exist yet."""
    path = base / "server"
    yield path
    assert embedded.stop(path)


@pytest.fixture(scope="session")
def made() -> Iterator[Path]:
    """A folder whose data is made, for all who leave it stopped."""
    base = Path(tempfile.mkdtemp(prefix="oban-test-", dir="/tmp"))
    base.chmod(0o755)
    embedded.start(base / "server", durable=False).stop()
    yield base / "server"
    shutil.rmtree(base)


@pytest.fixture
def folder(made: Path) -> Iterator[Path]:
    """The same, stopped again after each test."""
    yield made
    assert embedded.stop(made)


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start Python on a program whose `sys.argv[1:]` are the given arguments."""
    children: list[subprocess.Popen[str]] = []

    def start(program: str, *arguments: str | Path) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def postmaster(folder: Path) -> int:
    """Return the process id of the server that runs there."""
    return int((folder / "data" / "postmaster.pid").read_text().split()[0])


def runs(process: int) -> bool:
    """Return whether a process runs; one that only waits for its parent's notice does not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    try:
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False


def ended(process: int, within: float = 5.0) -> bool:
    """Return whether a process ends: it says that it stopped a moment before it is gone."""
    deadline = time.monotonic() + within
    while runs(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def one(dsn: str, query: str) -> object:
    """Return the one value a query yields."""
    with psycopg.connect(dsn) as conn:
        row = conn.execute(query).fetchone()
        assert row is not None
        return row[0]
