"""What a program gets that starts the embedded server."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import create_engine, text
from tests.embedded.conftest import one, postmaster

from oban import embedded


@pytest.fixture(scope="module")
def server(made: Path) -> Iterator[embedded.Server]:
    with embedded.start(made, durable=False) as running:
        yield running


def test_it_is_postgresql_18_unless_another_is_asked_for(server: embedded.Server) -> None:
    assert str(one(server.dsn, "show server_version")).startswith("18.")


def test_text_is_utf8_in_code_point_order_and_time_is_utc(server: embedded.Server) -> None:
    assert one(server.dsn, "show server_encoding") == "UTF8"
    assert one(server.dsn, "show timezone") == "UTC"
    assert one(server.dsn, "select lower('ÄÉ')") == "äé"
    assert one(server.dsn, "select 'Z' < 'a' and 'z' < 'ä'") is True


def test_it_listens_on_a_private_unix_socket_and_nowhere_else(server: embedded.Server) -> None:
    assert one(server.dsn, "show listen_addresses") == ""
    sockets = Path(str(conninfo_to_dict(server.dsn)["host"]))
    assert [path.name for path in sorted(sockets.iterdir())] == [
        ".s.PGSQL.5432",
        ".s.PGSQL.5432.lock",
    ]
    assert sockets.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("password", [None, "", "wrong"])
def test_nobody_connects_without_the_password(
    server: embedded.Server, password: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    right = conninfo_to_dict(server.dsn)
    assert len(str(right["password"])) >= 32
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host=str(right["host"]), user="postgres", password=password)


def test_the_server_does_not_run_as_root(server: embedded.Server) -> None:
    account = (server.data_dir / "data").stat().st_uid
    assert account != 0
    assert account == (os.geteuid() or account)
    process = Path(f"/proc/{postmaster(server.data_dir)}")
    if process.exists():  # not on macOS; PostgreSQL itself insists on owning its data
        assert process.stat().st_uid == account


def test_the_address_works_whatever_the_environment_says(
    server: embedded.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGHOST", "nowhere.invalid")
    monkeypatch.setenv("PGUSER", "somebody")
    assert one(server.dsn, "select 1") == 1


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_the_address_is_one_for_sqlalchemy_too(server: embedded.Server, driver: str) -> None:
    engine = create_engine(server.dsn.replace("postgresql:", f"postgresql+{driver}:"))
    with engine.connect() as conn:
        assert conn.execute(text("select 1")).scalar_one() == 1
    engine.dispose()


def test_the_address_cannot_be_changed_and_is_not_in_the_repr(server: embedded.Server) -> None:
    with pytest.raises(AttributeError):
        server.dsn = "other"  # type: ignore[misc]
    assert str(conninfo_to_dict(server.dsn)["password"]) not in repr(server)
