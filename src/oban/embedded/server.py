"""Starting, sharing and stopping the server of a folder."""

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from oban.embedded.cluster import Cluster, Mode
from oban.embedded.folder import Folder
from oban.embedded.owners import Owner, exclusive, living
from oban.embedded.program import locate
from oban.errors import EmbeddedError


class Server:
    """One claim on a running server; made by `start()`, used as a context manager or stopped."""

    def __init__(self, cluster: Cluster, owner: Owner, *, durable: bool) -> None:
        self._cluster = cluster
        self._owner = owner
        self._durable = durable
        self._dsn = cluster.dsn()
        self._process = os.getpid()
        self._stopped = False
        atexit.register(self.stop)

    @property
    def dsn(self) -> str:
        """The address with its password; it stays the same over restarts."""
        return self._dsn

    @property
    def data_dir(self) -> Path:
        return self._cluster.folder.path

    def stop(self) -> None:
        """Give up this claim, and stop the server when no living owner is left.

        Calling it again changes nothing, and neither does calling it in a forked child: the claim
        belongs to the process that made it. It is called by itself when the interpreter exits.
        """
        if self._stopped or os.getpid() != self._process:
            return
        self._stopped = True
        atexit.unregister(self.stop)
        folder = self._cluster.folder
        if not folder.path.exists():  # removed under us: PostgreSQL notices within a minute
            self._owner.release()
            return
        with exclusive(folder.lock):
            self._owner.release()
            if not living(folder.owners):
                self._cluster.shut_down()

    def restart(self, mode: Mode = "fast") -> None:
        """Stop the server and start it again at the same address, for every owner.

        Fast rolls open transactions back and writes everything out; immediate is a crash, followed
        by recovery from the log. A server with `durable=False` forgets its last commits in it.
        """
        if self._stopped:
            raise EmbeddedError("this claim was given up by stop(); make another with start()")
        with exclusive(self._cluster.folder.lock):
            self._cluster.shut_down(mode)
            self._cluster.bring_up(durable=self._durable, shared=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} {self.data_dir}>"


def start(data_dir: Path | str | None = None, *, durable: bool = True) -> Server:
    """Return a claim on the running server of a folder, starting it when it does not run.

    Blocks for about a second the first time, much less later. Without a folder it is the one of
    this account: `oban/postgresql` in its state directory, `/var/lib/oban/postgresql` for root.
    `durable=False` is for tests: it is faster, and a crash of the machine may lose everything.
    Raises `EmbeddedError` with what to do about it.
    """
    program = locate()
    with _refusals():
        folder = Folder.at(data_dir)
        folder.claim()
        cluster = Cluster(folder, program.usable_by(folder.account))
        with exclusive(folder.lock):
            others = living(folder.owners)
            owner = Owner(folder.owners)
            try:
                durable = cluster.bring_up(durable=durable, shared=others)
                return Server(cluster, owner, durable=durable)
            except BaseException:
                owner.release()
                if not others:
                    cluster.shut_down()
                raise


def stop(data_dir: Path | str | None = None) -> bool:
    """Stop the server of a folder whose owners are all gone; return whether none runs now.

    For a server left behind by a killed process. One that a living owner uses keeps running.
    """
    program = locate()
    with _refusals():
        folder = Folder.at(data_dir)
        if not folder.exists():
            return True
        with exclusive(folder.lock):
            if folder.owners.exists() and living(folder.owners):
                return False
            Cluster(folder, program.usable_by(folder.account)).shut_down()
            return True


@contextmanager
def _refusals() -> Iterator[None]:
    """Say what can be done when the system refuses us a file."""
    try:
        yield
    except OSError as error:
        message = (
            f"the embedded PostgreSQL cannot use its files: {error}; allow that, choose another "
            "folder, or run as another account"
        )
        raise EmbeddedError(message) from error
