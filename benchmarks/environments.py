"""Where the systems run: an environment for each, made when first needed, and a Redis server.

Whatever cannot be had raises `Unavailable` with its reason, so that one system is left out and the
others are measured.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.catalog import System

#: The folder that adapters are run in.
ADAPTERS = Path(__file__).parent / "systems"
ENVIRONMENTS = Path(__file__).parent / ".environments"

UVLOOP = "uvloop==0.23.0"
NEWEST_MINOR = 15
INSTALL_SECONDS = 600
REDIS_SECONDS = 10


class Unavailable(Exception):
    """This system cannot be measured here; the text says why."""


def prepare(system: System) -> None:
    """Make the environment of `system` unless it is there and has what is required."""
    if not system.requirements:
        return
    interpreter = find_node(system) if system.node else find_python(system)
    stamp = "\n".join([interpreter, version(interpreter), *required(system), ""])
    folder = ENVIRONMENTS / system.name
    stamped = folder / "requirements.txt"
    if stamped.exists() and stamped.read_text() == stamp:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for step in installation(system, interpreter, folder):
        install(system, step, folder)
    stamped.write_text(stamp)


def command(system: System) -> list[str]:
    """The start of the command line; a command and an order of `protocol` follow."""
    adapter = str(ADAPTERS / system.adapter)
    if not system.requirements:
        return [sys.executable, adapter]
    if system.node:
        return [find_node(system), adapter]
    return [str(ENVIRONMENTS / system.name / "bin" / "python"), adapter]


def required(system: System) -> tuple[str, ...]:
    return system.requirements if system.node else (*system.requirements, UVLOOP)


def installation(system: System, interpreter: str, folder: Path) -> Iterator[list[str]]:
    if system.node:
        yield ["npm", "install", "--no-audit", "--no-fund", "--prefix", ".", *required(system)]
        return
    yield [interpreter, "-m", "venv", str(folder)]
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    yield [*pip, "--disable-pip-version-check", *required(system)]


def install(system: System, step: list[str], folder: Path) -> None:
    try:
        subprocess.run(
            step, cwd=folder, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{system.title} cannot be installed: {error}") from error
    except subprocess.CalledProcessError as error:
        reason = said(error.stderr) or f"{step[0]} ended with {error.returncode}"
        raise Unavailable(f"{system.title} cannot be installed: {reason}") from error


def said(output: str) -> str:
    """The errors among what an installer writes, without the place of npm's log."""
    lines = [line for line in output.splitlines() if "error" in line.lower()]
    return "; ".join(line[:200] for line in lines if "complete log" not in line)


def find_python(system: System) -> str:
    """This interpreter if it is new enough, else the oldest one at hand that is.

    All systems run on one version where they can: a newer one would not be a fair comparison.
    """
    minimum = system.python
    if sys.version_info[:2] >= minimum:
        # The one that this environment is made from: environments are not stacked.
        return str(Path(sys.executable).resolve())
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for minor in range(minimum[1], NEWEST_MINOR + 1):
        name = f"python{minimum[0]}.{minor}"
        candidates = [shutil.which(name), *sorted(pyenv.glob(f"versions/*/bin/{name}"))]
        for candidate in filter(None, candidates):
            if version(str(candidate)):
                return str(candidate)
    wanted = ".".join(map(str, minimum))
    raise Unavailable(f"{system.title} needs Python {wanted} or newer, and none was found")


def find_node(system: System) -> str:
    wanted, node = system.python, shutil.which("node")
    if node is None or shutil.which("npm") is None:
        raise Unavailable(f"{system.title} needs node and npm, which are not installed")
    found = version(node)
    if tuple(map(int, found.removeprefix("v").split(".")[:2])) < wanted:
        raise Unavailable(f"{system.title} needs Node.js {wanted[0]} or newer, got {found}")
    return node


def version(program: str) -> str:
    """What the program says of itself, or nothing where it does not run, as a shim may not."""
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else ""


@contextmanager
def redis_server() -> Iterator[str]:
    """The URL of an empty Redis that writes every change to a file and syncs it once a second.

    That is the durability which its documentation recommends: up to a second of jobs may be lost
    with the machine, where PostgreSQL's commits lose none.
    """
    server = shutil.which("redis-server")
    if server is None:
        raise Unavailable("redis-server is not installed")
    with tempfile.TemporaryDirectory(prefix="bench-redis-") as folder:
        socket = Path(folder) / "redis.sock"
        options = ["--port", "0", "--unixsocket", str(socket), "--dir", folder, "--save", ""]
        durable = ["--appendonly", "yes", "--appendfsync", "everysec"]
        log = Path(folder) / "log"
        process = subprocess.Popen([server, *options, *durable, "--logfile", str(log)])
        try:
            await_socket(process, socket, log)
            yield f"unix://{socket}"
        finally:
            process.terminate()
            process.wait()


def await_socket(process: subprocess.Popen[bytes], socket: Path, log: Path) -> None:
    deadline = time.monotonic() + REDIS_SECONDS
    while not socket.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text() if log.exists() else ""
            raise Unavailable(f"redis-server did not start: {said[-300:]}")
        time.sleep(0.01)
