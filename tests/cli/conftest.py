import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.cli.application import Application

from oban import cli, embedded


@dataclass(frozen=True)
class Ran:
    """What a command did: its exit code and its two outputs."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


Command = Callable[..., Ran]
Insert = Callable[..., int]


@contextmanager
def imports_of(folder: Path) -> Iterator[None]:
    """Forget the modules that are imported from there meanwhile: others may have their names."""
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if str(folder) in str(getattr(sys.modules[name], "__spec__", "")):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An empty working directory, no variables of ours, a search path that is given back."""
    ours = [name for name in os.environ if name.startswith("OBAN_") and "TEST" not in name]
    for name in (*ours, "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.chdir(tmp_path)
    with imports_of(tmp_path):
        yield


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Carry out one command in this process."""

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        code = cli.run([str(each) for each in arguments])
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run


@pytest.fixture
def oban(command: Command, oban_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The same on a database with our tables, all of them empty."""
    monkeypatch.setenv("OBAN_DSN", oban_dsn)
    return command


@pytest.fixture
def insert(oban_dsn: str) -> Iterator[Insert]:
    """Insert a row as it is given, and return its id."""
    with psycopg.connect(oban_dsn, autocommit=True, prepare_threshold=None) as connection:

        def run(**columns: object) -> int:
            values = {"worker": "app.Worker", **columns}
            statement = (
                f"insert into oban_jobs ({', '.join(values)}) "
                f"values ({', '.join(['%s'] * len(values))}) returning id"
            )
            encoded = [
                json.dumps(value) if name in ("args", "meta", "errors") else value
                for name, value in values.items()
            ]
            row = connection.execute(statement.encode(), encoded).fetchone()
            assert row is not None
            return int(row[0])

        yield run


@pytest.fixture
def application(tmp_path: Path) -> Application:
    return Application(tmp_path)


@pytest.fixture
def embedded_folder() -> Iterator[Path]:
    """Where an embedded server may live that is not the tests' own."""
    # Not pytest's own folder: run by root, the server's account could not enter it.
    folder = Path(tempfile.mkdtemp(prefix="oban-cli-"))
    folder.chmod(0o755)
    yield folder / "postgres"
    embedded.stop(folder / "postgres")
    shutil.rmtree(folder)
