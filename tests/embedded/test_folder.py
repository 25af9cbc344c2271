"""What lies in the folder, who may enter, and what outside of it is left alone."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from oban import embedded
from oban.embedded.folder import Folder, make_private
from oban.errors import EmbeddedError

ROOT = os.geteuid() == 0


def look(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_mode, status.st_uid, status.st_gid


def test_nothing_outside_the_folder_changes_and_nobody_may_look_inside(fresh: Path) -> None:
    fresh = fresh.parent / "below" / "server"
    fresh.parent.mkdir(mode=0o751)
    outside = {path: look(path) for path in fresh.parents}
    accounts = Path("/etc/passwd").read_text()
    with embedded.start(fresh, durable=False):
        assert {path: look(path) for path in fresh.parents} == outside
        assert Path("/etc/passwd").read_text() == accounts
        assert fresh.stat().st_mode & 0o067 == 0
        for path in fresh.iterdir():
            assert path.stat().st_mode & 0o077 == 0, path
        assert (fresh / "password").stat().st_mode & 0o777 == 0o600
    assert {path: look(path) for path in fresh.parents} == outside


def test_an_empty_folder_is_taken_and_closed(base: Path) -> None:
    path = base / "empty"
    path.mkdir(mode=0o755)
    Folder.at(str(path)).claim()
    assert path.stat().st_mode & 0o067 == 0


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(base: Path) -> None:
    (base / "somebody's").touch()
    before = look(base)
    with pytest.raises(EmbeddedError, match="holds other files"):
        embedded.start(base)
    with pytest.raises(EmbeddedError, match="holds other files"):
        embedded.stop(base)
    assert look(base) == before
    assert [path.name for path in base.iterdir()] == ["somebody's"]


def test_a_file_in_the_place_of_the_folder_is_refused(base: Path) -> None:
    (base / "file").touch()
    with pytest.raises(EmbeddedError, match="cannot use its files"):
        embedded.start(base / "file" / "below")


def test_stopping_a_folder_that_does_not_exist_makes_none(base: Path) -> None:
    assert embedded.stop(base / "none") is True
    assert not (base / "none").exists()


def test_a_path_that_no_socket_may_have_gets_a_short_private_one(base: Path) -> None:
    path = base / ("a long name, " * 10)
    with embedded.start(path, durable=False) as server:
        sockets = Path(str(conninfo_to_dict(server.dsn)["host"]))
        assert len(os.fsencode(sockets / ".s.PGSQL.5432")) <= 103
        assert sockets.stat().st_mode & 0o077 == 0
        psycopg.connect(server.dsn).close()
        server.restart("immediate")
        psycopg.connect(server.dsn).close()
    assert not sockets.exists()


def test_the_longest_path_that_a_socket_may_have_stays_inside(base: Path) -> None:
    spare = 103 - len(os.fsencode(base / "x" / "run" / ".s.PGSQL.5432"))
    assert Folder.at(base / ("x" * (spare + 1))).sockets.parent.parent == base
    assert Folder.at(base / ("x" * (spare + 2))).sockets.parent == Path("/tmp")
    assert Folder.at(base / "a,b").sockets.parent == Path("/tmp")  # a comma parts hosts in a DSN


def test_a_place_for_sockets_that_others_have_taken_is_refused(base: Path) -> None:
    (base / "open").mkdir()
    (base / "open").chmod(0o777)
    (base / "elsewhere").mkdir(mode=0o700)
    (base / "link").symlink_to(base / "elsewhere")
    for name in ("open", "link"):
        before = look(base / name)
        with pytest.raises(EmbeddedError, match="remove it"):
            make_private(base / name, None)
        assert look(base / name) == before


@pytest.mark.skipif(not ROOT, reason="only root lends the server another account")
def test_root_is_told_which_folder_keeps_the_server_out(base: Path) -> None:
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    before = look(closed)
    with pytest.raises(EmbeddedError, match=f"may not enter {closed};") as refused:
        embedded.start(closed / "server")
    assert "/var/lib" in str(refused.value)
    assert look(closed) == before
    assert list(closed.iterdir()) == []


@pytest.mark.skipif(not ROOT, reason="only root can give a folder to another account")
def test_the_folder_of_another_account_is_refused(base: Path) -> None:
    path = base / "theirs"
    path.mkdir()
    os.chown(path, 65534, -1)
    before = look(path)
    with pytest.raises(EmbeddedError, match="belongs to another account"):
        embedded.start(path)
    assert look(path) == before


PROGRAM = """
import os, sys
from oban import embedded
with embedded.start(durable=False) as server:
    import psycopg
    with psycopg.connect(server.dsn) as conn:
        print(conn.execute("select 1").fetchone(), os.geteuid(), server.data_dir)
"""


def test_an_ordinary_account_has_its_server_in_its_state_directory(base: Path) -> None:
    account = 65534 if ROOT else os.geteuid()
    home = base / "home"
    home.mkdir(mode=0o700)
    os.chown(home, account, -1)

    def run(python: str, program: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, "-c", program],
            user=account if ROOT else None,
            group=account if ROOT else None,
            extra_groups=[] if ROOT else None,
            env={"HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )

    pythons = (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}")
    for python in pythons:
        try:
            if run(python, "import oban, platformdirs").returncode == 0:
                break
        except PermissionError:
            continue
    else:
        pytest.skip("no Python of this version that an unprivileged account may run")
    done = run(python, PROGRAM)
    assert done.stderr == ""
    value, user, path = done.stdout.rstrip().rsplit(" ", 2)
    assert (value, user) == ("(1,)", str(account))
    assert path.startswith(str(home))
    assert Path(path).stat().st_mode & 0o777 == 0o700
