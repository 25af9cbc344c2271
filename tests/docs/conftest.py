"""What a page finds when its blocks run: an empty folder and a database in OBAN_DSN."""

from pathlib import Path

import psycopg
import pytest

import oban.schema


@pytest.fixture
def place(tmp_path: Path, dsn: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, and a database of its own without tables."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("OBAN_DSN", dsn)
    return tmp_path


@pytest.fixture
def installed_place(place: Path, dsn: str) -> Path:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(oban.schema.install_sql().encode())
    return place
