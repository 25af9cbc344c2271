"""PostgreSQL on its data: bringing it up and shutting it down."""

import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import psycopg

from oban.embedded.account import run
from oban.embedded.data import make_data, require_fit
from oban.embedded.folder import PORT, SOCKET, Folder, make_private
from oban.embedded.owners import try_lock
from oban.embedded.program import Program
from oban.errors import EmbeddedError

START_PATIENCE = 60.0
STOP_PATIENCE = {"fast": 30.0, "immediate": 10.0}
LARGEST_LOG = 1_000_000

Mode = Literal["fast", "immediate"]


@dataclass(frozen=True, slots=True)
class Cluster:
    """The server of one folder. Call its methods only while holding the folder's lock."""

    folder: Folder
    program: Program

    def dsn(self) -> str:
        """Return where clients connect. The port is said so that PGPORT does not count."""
        password = quote(self.folder.password.read_text(), safe="")
        host = quote(str(self.folder.sockets))
        return f"postgresql://postgres:{password}@/postgres?host={host}&port={PORT}"

    def bring_up(self, *, durable: bool, shared: bool) -> bool:
        """Wait until the server answers, starting it if needed; return whether it is durable.

        One that runs with `durable=False` is restarted when durability is asked for, unless it is
        shared: then it is an error.
        """
        if not self.folder.data.exists():
            make_data(self.folder, self.program, durable=durable)
        require_fit(self.folder, self.program)
        found = self._answer(durable=durable)
        if durable and not found:
            if shared:
                message = (
                    f"the server of {self.folder.path} runs with durable=False for another owner: "
                    "end that one, ask for the same, or choose another folder"
                )
                raise EmbeddedError(message)
            self.shut_down()
            found = self._answer(durable=True)
        return found

    def shut_down(self, mode: Mode = "fast") -> None:
        """Stop the server and wait until its last process is gone; harder if that takes long."""
        for way in dict.fromkeys((mode, "immediate")):
            deadline = time.monotonic() + STOP_PATIENCE[way]
            told = False
            while self._alive() and time.monotonic() < deadline:
                told = told or self._tell_to_stop(way)
                time.sleep(0.01)
        if self._alive():
            message = f"the server of {self.folder.path} does not stop:\n{self._log_since(0)}"
            raise EmbeddedError(message)
        if self.folder.sockets.parent != self.folder.path:
            with suppress(OSError):  # missing, or somebody else's
                self.folder.sockets.rmdir()

    def _tell_to_stop(self, mode: str) -> bool:
        """Return whether it was told: one that has just begun cannot be told yet."""
        command = (self.program.binary("pg_ctl"), "stop", "--no-wait", "-m", mode)
        return run([*command, "-D", self.folder.data], self.folder.account).returncode == 0

    def _answer(self, *, durable: bool) -> bool:
        """Connect, starting the server if no process of it is left; return if it is durable."""
        deadline = time.monotonic() + START_PATIENCE
        log_size = None
        while True:
            if not self._alive():
                if log_size is not None:
                    message = f"PostgreSQL ended while starting:\n{self._log_since(log_size)}"
                    raise EmbeddedError(message)
                log_size = self._launch(durable=durable)
            try:
                with psycopg.connect(self.dsn(), connect_timeout=10) as conn:
                    return conn.execute("show fsync").fetchone() == ("on",)
            except psycopg.OperationalError as error:
                # A refused password stays refused; the rest passes once it has started or ended.
                refused = "password authentication failed" in str(error)
                if refused or time.monotonic() > deadline:
                    message = f"the server of {self.folder.path} does not answer: {error}"
                    raise EmbeddedError(f"{message}\n{self._log_since(0)}") from error
            time.sleep(0.02)

    def _alive(self) -> bool:
        """Return whether any process of the server is left.

        Each inherits the lock on `PG_VERSION`, so the kernel knows, even when the process ids in
        `postmaster.pid` mean others by now.
        """
        try:
            file = os.open(self.folder.data / "PG_VERSION", os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            return not try_lock(file)
        finally:
            os.close(file)

    def _launch(self, *, durable: bool) -> int:
        """Start the server in the background; return how long its log was before."""
        self._forget_crash()
        make_private(self.folder.sockets, self.folder.account)
        log = self._open_log()
        held = os.open(self.folder.data / "PG_VERSION", os.O_RDONLY)
        try:
            log_size = os.fstat(log).st_size
            try_lock(held)
            server = [str(self.program.binary("postgres")), "-D", str(self.folder.data)]
            # The shell leaves it to init: it is not our child to reap, nor does it end with us.
            background = ["/bin/sh", "-c", '"$@" &', "sh", *server, *self._settings(durable)]
            run(background, self.folder.account, output=log, keep_open=[held])
            return log_size
        finally:
            os.close(held)
            os.close(log)

    def _settings(self, durable: bool) -> list[str]:
        folder = self.folder
        # Seen from the data where possible: a list of folders has a quoting of its own.
        sockets = "../run" if folder.sockets.parent == folder.path else str(folder.sockets)
        settings = {
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": sockets,
            "unix_socket_permissions": "0700",
            # For the passwords that people choose; ours alone was made with fewer: see `make_data`.
            "scram_iterations": "4096",
        }
        if not durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _forget_crash(self) -> None:
        """Remove the notes of a crashed server: its number may be another process's by now.

        They stay, for PostgreSQL to judge, if a server started by other hands listens there.
        """
        note = self.folder.data / "postmaster.pid"
        if not _listens(note):
            note.unlink(missing_ok=True)
            self.folder.socket.with_name(f"{SOCKET}.lock").unlink(missing_ok=True)

    def _open_log(self) -> int:
        log = self.folder.log
        if log.exists() and log.stat().st_size > LARGEST_LOG:
            log.replace(log.with_suffix(".log.1"))
        return os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)

    def _log_since(self, position: int) -> str:
        """Return the last lines the server has logged after that position."""
        if not self.folder.log.exists():
            return ""
        with self.folder.log.open("rb") as file:
            file.seek(position)
            return "\n".join(file.read().decode(errors="replace").splitlines()[-20:])


def _listens(note: Path) -> bool:
    """Return whether the server that wrote this `postmaster.pid` takes connections."""
    if not note.exists():
        return False
    _, data, _, port, sockets, *_ = [*note.read_text().splitlines(), "", "", "", "", ""]
    address = (Path(data) / sockets).resolve() / f".s.PGSQL.{port}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(address))
        except OSError:
            return False
        return True
