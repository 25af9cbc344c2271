"""Locks that the kernel drops together with the process that holds them.

Nothing here trusts a process id: a killed owner is gone at once, whatever has its number since.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from oban.errors import EmbeddedError

PATIENCE = 120.0


class Owner:
    """A claim that lasts until it is released or its process ends.

    Make one only while holding the folder's lock: between its creation and its locking it looks
    like the claim of a dead process.
    """

    def __init__(self, owners: Path) -> None:
        self._path = owners / f"{os.getpid()}-{uuid4().hex}"
        self._file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try_lock(self._file)

    def release(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._file)


def living(owners: Path) -> bool:
    """Forget the claims of dead processes and return whether any other is left.

    Call it only while holding the folder's lock.
    """
    alive = False
    for path in owners.iterdir():
        file = os.open(path, os.O_RDWR)
        try:
            if try_lock(file):
                path.unlink()
            else:
                alive = True
        finally:
            os.close(file)
    return alive


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock of that file, waiting for threads and processes that have it."""
    file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        deadline = time.monotonic() + PATIENCE
        while not try_lock(file):
            if time.monotonic() > deadline:
                message = f"another process has held {path} for {PATIENCE:.0f} s; end it, try again"
                raise EmbeddedError(message)
            time.sleep(0.01)
        try:
            yield
        finally:
            unlock(file)  # said aloud: a child forked meanwhile shares the open file
    finally:
        os.close(file)


def try_lock(file: int) -> bool:
    """Take the lock of an open file if nobody has it; return whether we have it now."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(file: int) -> None:
    import fcntl

    fcntl.flock(file, fcntl.LOCK_UN)
