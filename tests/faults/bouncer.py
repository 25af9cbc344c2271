"""A real PgBouncer in transaction mode, in front of a test's server."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
MISSING = "there is no pgbouncer on this machine"

#: More clients than server connections: whoever relies on a session of his own is found out.
CONFIG = """
[databases]
* = {target}

[pgbouncer]
pool_mode = transaction
default_pool_size = 8
max_client_conn = 400
server_idle_timeout = 2
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
ignore_startup_parameters = extra_float_digits
logfile = {folder}/log
pidfile = {folder}/pid
"""


@contextmanager
def bouncer(dsn: str) -> Iterator[str]:
    """The DSN of the same database behind PgBouncer, which is so for all of the server's."""
    assert PROGRAM is not None
    given = conninfo_to_dict(dsn)
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="oban-bouncer-"))
    config = folder / "pgbouncer.ini"
    config.write_text(
        CONFIG.format(
            target=" ".join(
                f"{key}={given[key]}"
                for key in ("host", "port", "user", "password")
                if given.get(key)
            ),
            listen_port=port,
            folder=folder,
        )
    )
    command = [PROGRAM, str(config)]
    if os.getuid() == 0:  # it refuses to run as root; the server's account may enter its socket
        host = str(given.get("host", ""))
        on_socket = host.startswith("/")
        owner = Path(host).stat().st_uid if on_socket else pwd.getpwnam("nobody").pw_uid
        for path in (folder, config):
            os.chown(path, owner, -1)
        command[1:1] = ["-u", pwd.getpwuid(owner).pw_name]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    through = make_conninfo(host="127.0.0.1", port=port, dbname=given["dbname"], user="anybody")
    try:
        wait_for(through)
        yield through
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(dsn: str, deadline: float = 10.0) -> None:
    ends = time.monotonic() + deadline
    while True:
        try:
            psycopg.connect(dsn, connect_timeout=2).close()
        except psycopg.OperationalError:
            assert time.monotonic() < ends, "pgbouncer does not answer"
            time.sleep(0.05)
        else:
            return
