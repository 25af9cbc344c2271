"""A server of a test's own, to be restarted under load."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import psycopg
import pytest

import oban.embedded
import oban.schema

Restart = Callable[[Literal["fast", "immediate"]], None]


@pytest.fixture
def own_server() -> Iterator[tuple[str, Restart]]:
    """The DSN of a durable server with our tables, and how to restart it."""
    folder = Path(tempfile.mkdtemp(prefix="oban-test-"))
    folder.chmod(0o755)
    try:
        with oban.embedded.start(folder / "postgres") as server:
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                connection.execute(oban.schema.install_sql().encode())
            yield server.dsn, server.restart
    finally:
        shutil.rmtree(folder)
