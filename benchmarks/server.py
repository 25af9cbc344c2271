"""A durable PostgreSQL of a chosen version, gone when the measurement is over.

`shared_buffers` is 512 MB, as anybody would set it who has work for a server; all else is as
PostgreSQL comes, so every commit is on disk when it returns.
"""

import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg

import oban.embedded
import oban.schema
from oban.embedded.account import give, run, server_account
from oban.embedded.program import INSTALLS, VARIABLE, locate

#: Debian's packages; 16 and 18 come in a wheel.
DEBIAN = Path("/usr/lib/postgresql")
VERSIONS = ("15", "16", "18")
DEFAULT = "16"
SHARED_BUFFERS = "512MB"


class NoServer(Exception):
    """That version is not on this machine; the text says where it would come from."""


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL and its files."""

    address: str
    data: Path
    binaries: Path

    @contextmanager
    def database(self) -> Iterator[str]:
        """The DSN of a new database, dropped afterwards with whoever is still connected."""
        name = f"bench_{secrets.token_hex(4)}"
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"create database {name}".encode())
        try:
            yield self.dsn(name)
        finally:
            with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
                connection.execute(f"drop database if exists {name} with (force)".encode())

    def dsn(self, database: str) -> str:
        """As a URL, which every driver takes."""
        before, after = self.address.split("/postgres?")
        return f"{before}/{database}?{after}"

    def version(self) -> str:
        with psycopg.connect(self.dsn("postgres")) as connection:
            return connection.info.parameter_status("server_version") or "unknown"

    def wal_records(self, begin: str, end: str) -> Mapping[str, int]:
        """How often each kind of record was written between two positions of the log.

        Empty where that part of the log is already recycled.
        """
        command = [str(self.binaries / "pg_waldump"), "--stats=record"]
        span = ["--path", str(self.data / "pg_wal"), "--start", begin, "--end", end]
        said = subprocess.run([*command, *span], capture_output=True, text=True, check=False)
        found = re.findall(r"^([\w+]+/[\w+]+)\s+(\d+) \(", said.stdout, re.MULTILINE)
        return {name: int(count) for name, count in found} if said.returncode == 0 else {}


@contextmanager
def running(version: str = DEFAULT) -> Iterator[Server]:
    """Start one in a new folder; raises `NoServer` if there is none of that version."""
    folder = Path(tempfile.mkdtemp(prefix="oban-bench-"))
    folder.chmod(0o755)  # the server's account, when run by root, must be able to enter
    start = embedded if version in map(str, INSTALLS) else debian
    try:
        with start(version, folder / "postgres") as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def embedded(version: str, folder: Path) -> Iterator[Server]:
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = version
    try:
        with oban.embedded.start(folder) as server:
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                connection.execute(f"alter system set shared_buffers = '{SHARED_BUFFERS}'".encode())
            server.restart()
            yield Server(server.dsn, folder / "data", locate().binary("postgres").parent)
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


@contextmanager
def debian(version: str, folder: Path) -> Iterator[Server]:
    binaries = DEBIAN / version / "bin"
    if not (binaries / "postgres").exists():
        raise NoServer(f"no {binaries / 'postgres'}: apt-get install postgresql-{version}")
    account = server_account(folder)
    folder.mkdir(mode=0o700)
    give(folder, account)
    data, control = folder / "data", binaries / "pg_ctl"
    encoding = ("-E", "UTF8", "--locale", "C.UTF-8")
    make = (binaries / "initdb", "-D", data, "-A", "trust", "-U", "postgres", *encoding)
    options = f"-k {folder} -c listen_addresses='' -c shared_buffers={SHARED_BUFFERS}"
    begin = (control, "-D", data, "-l", folder / "log", "-w", "-o", options, "start")
    # A server keeps the pipe of the command that started it open; nobody waits for its end.
    for command, output in ((make, subprocess.PIPE), (begin, subprocess.DEVNULL)):
        if run(command, account, output=output).returncode != 0:
            raise NoServer(f"{command[0]} failed in {folder}")
    try:
        yield Server(f"postgresql://postgres@/postgres?host={quote(str(folder))}", data, binaries)
    finally:
        run([control, "-D", data, "-m", "fast", "-w", "stop"], account)


@contextmanager
def fresh_server() -> Iterator[str]:
    """The DSN of a database with our tables."""
    with running() as server, server.database() as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(oban.schema.install_sql().encode())
        yield dsn
