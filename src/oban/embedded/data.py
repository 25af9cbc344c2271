"""Making the data a server works on, and knowing whether it is fit for this one."""

import os
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from oban.embedded.account import give, run
from oban.embedded.folder import Folder
from oban.embedded.program import DEFAULT, INSTALLS, VARIABLE, Program
from oban.errors import EmbeddedError


def make_data(folder: Folder, program: Program, *, durable: bool) -> None:
    """Make new data and its password, complete or not at all, also when interrupted.

    Text is UTF-8, ordered by code point, and the time zone is UTC, whatever the machine's are.
    """
    for leftover in folder.path.glob("new-*"):
        _remove(leftover)
    unfinished = Path(tempfile.mkdtemp(prefix="new-", dir=folder.path))
    try:
        give(unfinished, folder.account)
        _write_password(folder)
        made = run(
            [
                *(program.binary("initdb"), "-D", unfinished, "--no-instructions"),
                *("--username=postgres", "--auth=scram-sha-256", f"--pwfile={folder.password}"),
                *("--encoding=UTF8", *_locale(program)),
                *("--set=timezone=UTC", "--set=log_timezone=UTC"),
                # Rounds slow down the guessing of weak passwords; ours is random, and each of
                # them delays every connect. The server runs with the usual number.
                "--set=scram_iterations=1",
                *(() if durable else ("--no-sync",)),
            ],
            folder.account,
        )
        if made.returncode != 0:
            raise EmbeddedError(f"cannot make a database in {folder.path}:\n{made.stdout}")
        if durable:
            _sync(folder.password)
        unfinished.rename(folder.data)
        if durable:
            _sync(folder.path)
    finally:
        _remove(unfinished)


def require_fit(folder: Folder, program: Program) -> None:
    """Refuse data of another major version, or data whose password is lost."""
    found = (folder.data / "PG_VERSION").read_text().strip()
    if found != str(program.major):
        if found == str(DEFAULT):
            keep = f"unset {VARIABLE} to go on with it, "
        elif found in map(str, INSTALLS):
            keep = f"set {VARIABLE}={found} to go on with it, "
        else:
            keep = ""
        message = (
            f"the data in {folder.path} was made by PostgreSQL {found}, and this is "
            f"{program.major}: {keep}move it with pg_dumpall or pg_upgrade, or remove the folder "
            "if nothing in it is needed"
        )
        raise EmbeddedError(message)
    if not folder.password.exists():
        message = (
            f"{folder.password} is missing, and nobody can connect without it: put it back, or "
            f"remove {folder.path} if nothing in it is needed"
        )
        raise EmbeddedError(message)


def _remove(path: Path) -> None:
    """Remove a folder in which an `initdb` whose starter was killed may still be writing."""
    deadline = time.monotonic() + 10
    while path.exists() and time.monotonic() < deadline:
        shutil.rmtree(path, ignore_errors=True)


def _write_password(folder: Folder) -> None:
    folder.password.unlink(missing_ok=True)
    folder.password.touch(mode=0o600)
    folder.password.write_text(secrets.token_urlsafe(24))
    give(folder.password, folder.account)


def _locale(program: Program) -> list[str]:
    """Say C.UTF-8: PostgreSQL's own from 17 on, before that the system's where it has one."""
    if program.major >= 17:
        return ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return ["--locale=C" if sys.platform == "darwin" else "--locale=C.UTF-8"]


def _sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, survive a power failure."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
