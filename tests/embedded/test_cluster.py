"""Starting and restarting, and what is said when the server cannot start."""

from pathlib import Path

import psycopg
import pytest
from tests.embedded.conftest import ended, one, postmaster, runs

from oban import embedded
from oban.errors import EmbeddedError


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_keeps_the_address_and_what_was_committed(folder: Path, mode: str) -> None:
    with embedded.start(folder) as server:
        before = postmaster(folder)
        with psycopg.connect(server.dsn) as cut:
            cut.execute(f"create table kept_{mode} ()")
            cut.commit()
            server.restart("fast" if mode == "fast" else "immediate")
            with pytest.raises(psycopg.OperationalError):
                cut.execute("select 1")
        assert postmaster(folder) != before
        assert one(server.dsn, f"select count(*) from kept_{mode}") == 0


def test_only_its_own_random_password_is_hashed_with_one_round(folder: Path) -> None:
    """A person's password may be guessed, and must cost the usual time to try."""
    with embedded.start(folder, durable=False) as server, psycopg.connect(server.dsn) as conn:
        conn.execute("create role person password 'person'")
        rows = conn.execute(
            "select rolname, split_part(split_part(rolpassword, '$', 2), ':', 1) from pg_authid "
            "where rolpassword is not null"
        ).fetchall()
    assert dict(rows) == {"postgres": "1", "person": "4096"}


def test_a_claim_given_up_does_nothing_more(folder: Path) -> None:
    with embedded.start(folder, durable=False) as server:
        with embedded.start(folder, durable=False) as other:
            pass
        other.stop()
        with pytest.raises(EmbeddedError, match="start"):
            other.restart()
        assert one(server.dsn, "select 1") == 1


def test_a_server_without_durability_is_not_passed_off_as_durable(folder: Path) -> None:
    with (
        embedded.start(folder, durable=False) as server,
        pytest.raises(EmbeddedError, match="durable=False"),
    ):
        assert one(server.dsn, "show fsync") == "off"
        embedded.start(folder)
    with embedded.start(folder) as server, embedded.start(folder, durable=False) as other:
        assert other.dsn == server.dsn
        assert one(other.dsn, "show fsync") == "on"
        assert one(other.dsn, "show full_page_writes") == "on"


def test_a_server_that_does_not_start_shows_what_it_logged(folder: Path) -> None:
    settings = folder / "data" / "postgresql.auto.conf"
    original = settings.read_text()
    settings.write_text("no_such_setting = 1\n")
    try:
        with pytest.raises(EmbeddedError, match="no_such_setting"):
            embedded.start(folder)
    finally:
        settings.write_text(original)
    assert not (folder / "data" / "postmaster.pid").exists()
    assert list((folder / "owners").iterdir()) == []


def test_a_lost_or_changed_password_is_an_error_at_once(folder: Path) -> None:
    password = folder / "password"
    original = password.read_text()
    try:
        password.write_text("another")
        with pytest.raises(EmbeddedError, match="password authentication failed"):
            embedded.start(folder, durable=False)
        password.rename(folder / "hidden")
        with pytest.raises(EmbeddedError, match="password is missing"):
            embedded.start(folder, durable=False)
    finally:
        (folder / "hidden").rename(password)
        password.write_text(original)


def test_the_data_of_another_major_version_is_refused_with_a_way_out(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSERVER_POSTGRES_VERSION", "16")
    with embedded.start(fresh, durable=False) as server:
        assert str(one(server.dsn, "show server_version")).startswith("16.")
        process = postmaster(fresh)
        monkeypatch.delenv("PGSERVER_POSTGRES_VERSION")
        with pytest.raises(EmbeddedError, match=r"set PGSERVER_POSTGRES_VERSION=16 .*pg_upgrade"):
            embedded.start(fresh)
        assert runs(process)
        assert one(server.dsn, "select 1") == 1
    assert ended(process)


@pytest.mark.parametrize(
    ("found", "wanted", "advice"),
    [
        ("18", "16", "unset PGSERVER_POSTGRES_VERSION to go on"),
        ("15", "18", "PostgreSQL 15, and this is 18: move it with pg_dumpall"),
    ],
)
def test_every_other_major_version_has_its_own_advice(
    folder: Path, monkeypatch: pytest.MonkeyPatch, found: str, wanted: str, advice: str
) -> None:
    version = folder / "data" / "PG_VERSION"
    original = version.read_text()
    monkeypatch.setenv("PGSERVER_POSTGRES_VERSION", wanted)
    version.write_text(f"{found}\n")
    try:
        with pytest.raises(EmbeddedError, match=advice):
            embedded.start(folder)
    finally:
        version.write_text(original)
