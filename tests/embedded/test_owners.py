"""Who keeps the server running, and what becomes of it when they are gone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from tests.embedded.conftest import Spawn, ended, postmaster, runs

from oban import embedded
from oban.embedded.account import server_account

OWN = """
import sys
from pathlib import Path
from oban import embedded
server = embedded.start(Path(sys.argv[1]), durable=False)
print(server.dsn, flush=True)
sys.stdin.readline()
"""


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    assert child.stderr is not None
    return child.stdout.readline().strip() or child.stderr.read()


def test_the_last_owner_to_leave_stops_the_server(folder: Path) -> None:
    first = embedded.start(folder, durable=False)
    second = embedded.start(folder, durable=False)
    process = postmaster(folder)
    assert first.dsn == second.dsn
    first.stop()
    psycopg.connect(second.dsn).close()
    second.stop()
    assert ended(process)


def test_two_processes_that_start_a_new_folder_at_once_share_one_server(
    fresh: Path, spawn: Spawn
) -> None:
    children = [spawn(OWN, fresh) for _ in range(2)]
    first, second = (line(child) for child in children)
    assert first == second
    process = postmaster(fresh)
    children[0].communicate("go\n", timeout=20)
    psycopg.connect(first).close()
    children[1].communicate("go\n", timeout=20)
    assert [child.returncode for child in children] == [0, 0]
    assert ended(process)


def test_the_server_of_a_killed_owner_is_adopted_by_the_next_start(
    folder: Path, spawn: Spawn
) -> None:
    child = spawn(OWN, folder)
    dsn = line(child)
    process = postmaster(folder)
    child.kill()
    child.wait()
    assert runs(process)
    with embedded.start(folder, durable=False) as server:
        assert server.dsn == dsn
        assert postmaster(folder) == process
        assert len(list((folder / "owners").iterdir())) == 1
    assert ended(process)


def test_the_server_of_a_killed_owner_can_be_stopped_but_not_that_of_a_living_one(
    folder: Path, spawn: Spawn
) -> None:
    child = spawn(OWN, folder)
    line(child)
    process = postmaster(folder)
    assert embedded.stop(folder) is False
    assert runs(process)
    child.kill()
    child.wait()
    assert embedded.stop(folder) is True
    assert ended(process)


def test_a_killed_owner_does_not_keep_the_server_from_stopping(folder: Path, spawn: Spawn) -> None:
    child = spawn(OWN, folder)
    line(child)
    with embedded.start(folder, durable=False):
        process = postmaster(folder)
        child.kill()
        child.wait()
    assert ended(process)


def test_a_server_without_durability_and_owners_is_restarted_when_durability_is_asked_for(
    folder: Path, spawn: Spawn
) -> None:
    child = spawn(OWN, folder)
    line(child)
    child.kill()
    child.wait()
    with embedded.start(folder) as server, psycopg.connect(server.dsn) as conn:
        assert conn.execute("show fsync").fetchone() == ("on",)


def test_a_forked_child_does_not_end_what_its_parent_owns(folder: Path, spawn: Spawn) -> None:
    program = """
import os, sys
from pathlib import Path
from oban import embedded
server = embedded.start(Path(sys.argv[1]), durable=False)
child = os.fork()
if child == 0:
    server.stop()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
import psycopg
psycopg.connect(server.dsn).close()
print("still there")
"""
    child = spawn(program, folder)
    output, errors = child.communicate(timeout=20)
    assert (output, child.returncode) == ("still there\n", 0), errors
    assert not (folder / "data" / "postmaster.pid").exists()


def test_a_crashed_server_starts_though_its_process_id_is_anothers_by_now(folder: Path) -> None:
    with embedded.start(folder, durable=False):
        crashed = postmaster(folder)
        notes = [folder / "data" / "postmaster.pid", folder / "run" / ".s.PGSQL.5432.lock"]
        written = [note.read_text() for note in notes]
        os.kill(crashed, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while runs(crashed) and time.monotonic() < deadline:
            time.sleep(0.01)
    account = server_account(folder / "data")
    other = subprocess.Popen(
        ["sleep", "60"],
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
    )
    try:
        for note, text in zip(notes, written, strict=True):
            note.write_text(text.replace(str(crashed), str(other.pid), 1))
        with embedded.start(folder, durable=False) as server:
            psycopg.connect(server.dsn).close()
            assert postmaster(folder) != other.pid
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_server_killed_under_its_owner_is_started_again_by_the_next(folder: Path) -> None:
    with embedded.start(folder, durable=False) as server:
        os.kill(postmaster(folder), signal.SIGKILL)
        with embedded.start(folder, durable=False) as other:
            assert other.dsn == server.dsn
            psycopg.connect(server.dsn).close()


def test_a_start_killed_while_making_the_data_is_made_good_by_the_next(
    fresh: Path, spawn: Spawn
) -> None:
    child = spawn(OWN, fresh)
    deadline = time.monotonic() + 20
    while not any(fresh.glob("new-*/base")) and time.monotonic() < deadline:
        time.sleep(0.005)
    child.kill()
    child.wait()
    assert not (fresh / "data").exists()
    with embedded.start(fresh, durable=False) as server:
        psycopg.connect(server.dsn).close()
    assert not any(fresh.glob("new-*"))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_interrupted(folder: Path, sent: signal.Signals) -> None:
    command = [sys.executable, "-m", "oban.embedded", str(folder)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        psycopg.connect(line(child)).close()
        process = postmaster(folder)
        child.send_signal(sent)
        assert child.communicate(timeout=20) == ("", "")
        assert child.returncode == 0
        assert ended(process)
    finally:
        child.kill()
        child.communicate()


def test_the_command_says_what_is_wrong_in_one_line(base: Path) -> None:
    (base / "a file").touch()
    command = [sys.executable, "-m", "oban.embedded", str(base)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{base} holds other files; choose a new or an empty folder\n"
