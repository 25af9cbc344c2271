"""Whom the server runs as."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from oban.errors import EmbeddedError

UNPRIVILEGED = ("postgres", "nobody")
# PostgreSQL is steered by PG* and LC_* variables; it gets none of the caller's.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged account of this machine that root lends to the server."""

    name: str
    uid: int
    gid: int


def server_account(data: Path) -> Account | None:
    """Return the account the server of that data must run as; None is our own.

    PostgreSQL refuses to run as root, so for root it is the account that owns the data, and for
    new data the first of `UNPRIVILEGED` that exists. None is ever created.
    """
    if os.geteuid() != 0:
        return None
    import pwd

    try:
        if data.exists():
            entry = pwd.getpwuid(data.stat().st_uid)
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    except KeyError:
        raise EmbeddedError(f"{data} belongs to an account this machine does not know") from None
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    accounts = " nor ".join(UNPRIVILEGED)
    message = f"PostgreSQL cannot run as root, and no account {accounts} exists; run as a user"
    raise EmbeddedError(message)


def give(path: Path, account: Account | None) -> None:
    """Hand a file or folder we have just made to the server's account."""
    if account is not None:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def run(
    command: Sequence[str | Path],
    account: Account | None,
    *,
    output: int = subprocess.PIPE,
    keep_open: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a command as the server's account, out of reach of the terminal's Ctrl-C."""
    try:
        return subprocess.run(  # noqa: S603 - no shell reads the arguments
            [str(part) for part in command],
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
            umask=0o077,
            cwd="/",
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=keep_open,
            start_new_session=True,
            text=True,
            timeout=120,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        who = "this account" if account is None else f"the account {account.name!r}"
        raise EmbeddedError(f"cannot run {command[0]} as {who}: {error}") from error


def require_reach(path: Path, account: Account | None) -> None:
    """Refuse a path that the server's account could not come to."""
    if account is None:
        return
    steps = [step for step in [*reversed(path.parents), path] if step.is_dir()]
    walk = 'for step do cd -- "$step" || { printf "%s" "$step"; exit 1; }; done 2>/dev/null'
    result = run(["/bin/sh", "-c", walk, "sh", *steps], account)
    if result.returncode != 0:
        message = (
            f"for root the server runs as the account {account.name!r}, which may not enter "
            f"{result.stdout}; its permissions are left alone: choose a folder below one that "
            "every account may enter, such as /var/lib, or run as an ordinary user"
        )
        raise EmbeddedError(message)
