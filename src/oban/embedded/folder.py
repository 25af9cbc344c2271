"""The folder of one server: what lies where, and who may enter."""

import hashlib
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from oban.embedded.account import Account, give, require_reach, server_account
from oban.errors import EmbeddedError

PORT = 5432
SOCKET = f".s.PGSQL.{PORT}"
# What a socket's address may measure in bytes: 107 on Linux, 103 on macOS.
LONGEST_SOCKET_PATH = 103


@dataclass(frozen=True, slots=True)
class Folder:
    """The paths of one server. Only `data` and `sockets` are the server's to write."""

    path: Path
    account: Account | None

    @classmethod
    def at(cls, path: Path | str | None) -> "Folder":
        """Describe the folder at that path, by default the one of this account."""
        chosen = (default_path() if path is None else Path(path).expanduser()).resolve()
        return cls(chosen, server_account(chosen / "data"))

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def owners(self) -> Path:
        return self.path / "owners"

    @property
    def password(self) -> Path:
        return self.path / "password"

    @property
    def log(self) -> Path:
        return self.path / "server.log"

    @property
    def socket(self) -> Path:
        return self.sockets / SOCKET

    @property
    def sockets(self) -> Path:
        """A private folder whose name can be a socket's address, the same at every start.

        Such an address is short, and has no comma, which parts the hosts of a DSN.
        """
        inside = self.path / "run"
        if len(os.fsencode(inside / SOCKET)) <= LONGEST_SOCKET_PATH and "," not in str(inside):
            return inside
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        return Path("/tmp") / f"oban-{os.geteuid()}-{digest}"  # noqa: S108 - see `make_private`

    def claim(self) -> None:
        """Make the folder ours and nobody else's, with what the server needs around its data.

        Raises `EmbeddedError` for a folder that belongs to another account, holds something else,
        or cannot be entered by the server's account; nothing is changed then.
        """
        require_reach(self.path, self.account)
        if not self.exists():
            if self.account is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            else:
                make_public(self.path.parent)
            self.path.mkdir(mode=0o700, exist_ok=True)
        self.lock.touch(mode=0o600)  # first: it marks the folder as ours
        self._close_to_others()
        self.owners.mkdir(mode=0o700, exist_ok=True)

    def exists(self) -> bool:
        """Return whether there is such a folder; raise `EmbeddedError` if it is not ours."""
        if not self.path.exists():
            return False
        if self.path.stat().st_uid != os.geteuid():
            message = f"{self.path} belongs to another account; use that one, or another folder"
            raise EmbeddedError(message)
        if any(self.path.iterdir()) and not self.lock.exists():
            message = f"{self.path} holds other files; choose a new or an empty folder"
            raise EmbeddedError(message)
        return True

    def _close_to_others(self) -> None:
        """Let nobody in but ourselves and the server, which for root passes by its group."""
        if self.account is not None and self.path.stat().st_gid != self.account.gid:
            os.chown(self.path, -1, self.account.gid)
        mode = 0o700 if self.account is None else 0o710
        if stat.S_IMODE(self.path.stat().st_mode) != mode:
            self.path.chmod(mode)


def default_path() -> Path:
    if os.geteuid() == 0:
        return system_home() / "postgresql"
    import platformdirs

    return platformdirs.user_state_path("oban") / "postgresql"


def system_home() -> Path:
    """Return root's folder for what other accounts must reach; home directories are closed."""
    if sys.platform == "darwin":
        return Path("/Library/Application Support/oban")
    return Path("/var/lib/oban")


def make_public(path: Path) -> None:
    """Make the folder and its missing parents, for anybody to enter; existing ones are left."""
    if path.exists():
        return
    make_public(path.parent)
    try:
        path.mkdir()
    except FileExistsError:
        return
    path.chmod(0o755)  # whatever the umask


def make_private(path: Path, account: Account | None) -> None:
    """Make sure of a folder that only the server's account can enter, and give it to it.

    It may lie where others can write: one that they made in our place is refused.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        expected = {os.geteuid()} if account is None else {0, account.uid}
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in expected or found.st_mode & 0o077:
            message = f"{path} is in our place and not private: remove it"
            raise EmbeddedError(message) from None
    give(path, account)
