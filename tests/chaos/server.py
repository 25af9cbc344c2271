"""A PostgreSQL of a scenario's own: on a TCP port, to be stopped, crashed, copied and promoted."""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Literal, Self

import psycopg
from psycopg.conninfo import make_conninfo
from tests.faults.bouncer import free_port

import oban.schema
from oban.embedded.account import give, run, server_account
from oban.embedded.program import locate

Mode = Literal["fast", "immediate"]

SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    # A process that is killed loses nothing without it; no machine is turned off here.
    "fsync": "off",
    "wal_level": "replica",
    "max_wal_senders": "4",
    "hot_standby": "on",
    "log_min_messages": "warning",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
}


class Server:
    def __init__(self, port: int | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="oban-chaos-"))
        self.folder.chmod(0o755)
        self.data = self.folder / "data"
        self.account = server_account(self.data)
        give(self.folder, self.account)
        self.program = locate().usable_by(self.account)
        self.port = port or free_port()

    @property
    def dsn(self) -> str:
        return make_conninfo(host="127.0.0.1", port=self.port, user="postgres", dbname="postgres")

    def __enter__(self) -> Self:
        options = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale", "C"]
        self.command("initdb", "-D", self.data, *options)
        self.start()
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(oban.schema.install_sql().encode())
        return self

    def __exit__(self, *_: object) -> None:
        self.stop("immediate")
        shutil.rmtree(self.folder)

    def command(self, name: str, *arguments: str | Path) -> None:
        done = run([self.program.binary(name), *arguments], self.account)
        assert done.returncode == 0, (name, arguments, done)

    def start(self) -> None:
        settings = {**SETTINGS, "port": str(self.port)}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        log = self.folder / "log"
        self.command("pg_ctl", "start", "-w", "-D", self.data, "-l", log, "-o", options)

    def stop(self, mode: Mode = "fast") -> None:
        run(
            [self.program.binary("pg_ctl"), "stop", "-w", "-m", mode, "-D", self.data], self.account
        )

    def standby(self) -> "Server":
        """A synchronous standby of this server, running."""
        other = Server()
        source = f"host=127.0.0.1 port={self.port} user=postgres application_name=standby"
        self.command("pg_basebackup", "-d", source, "-D", other.data, "-R", "-X", "stream")
        other.start()
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("alter system set synchronous_standby_names = 'standby'")
            connection.execute("select pg_reload_conf()")
            ends = time.monotonic() + 20
            query = "select sync_state from pg_stat_replication"
            while connection.execute(query).fetchone() != ("sync",):
                assert time.monotonic() < ends, "the standby does not follow"
                time.sleep(0.05)
        return other

    def promote(self) -> None:
        self.command("pg_ctl", "promote", "-w", "-D", self.data)

    def dump(self, file: Path) -> None:
        self.command("pg_dump", "-d", self.dsn, "-Fc", "-f", file)

    def restore(self, file: Path) -> None:
        self.command("pg_restore", "-d", self.dsn, "--clean", "--if-exists", file)
