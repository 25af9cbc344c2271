"""A durable embedded PostgreSQL with empty tables, gone when the measurement is over."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

import oban.embedded
import oban.schema


@contextmanager
def fresh_server() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="oban-bench-"))
    folder.chmod(0o755)  # the server's account, when run by root, must be able to enter
    try:
        with oban.embedded.start(folder / "postgres") as server:
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                connection.execute(oban.schema.install_sql().encode())
            yield server.dsn
    finally:
        shutil.rmtree(folder)


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
