"""Adapters as processes: asked for one thing, or working until told to stop; never waited for
without a bound.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from benchmarks import environments
from benchmarks.catalog import System
from benchmarks.measurement import AdapterFailed, DidNotFinish

POLL = 0.01
READY_SECONDS = 30.0
#: What a system may take to finish after SIGTERM before it is killed.
STOP_SECONDS = 10.0
TICKS = os.sysconf("SC_CLK_TCK")


class Process:
    """One adapter at one order. Leaving the context ends whatever is left of it."""

    def __init__(self, system: System, command: str, order: dict[str, Any], folder: Path) -> None:
        self.system = system
        self.name = f"{system.name} {command}"
        stem = f"{command}-{time.monotonic_ns()}"
        self.output, self.errors = folder / f"{stem}.out", folder / f"{stem}.err"
        argv = [*environments.command(system), command, json.dumps(order)]
        with self.output.open("wb") as output, self.errors.open("wb") as errors:
            # A session of its own, so that what it has started can be ended with it.
            self.process = subprocess.Popen(
                argv,
                cwd=environments.ADAPTERS,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
        self.cpu_when_ready = 0.0
        self.cpu = 0.0
        self.killed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.alive():
            self.signal(signal.SIGKILL)
            self.reap()

    def alive(self) -> bool:
        """Whether it runs; the first time it does not, its cost is noted."""
        if self.process.returncode is None:
            self.reap(os.WNOHANG)
        return self.process.returncode is None

    def wait(self, seconds: float) -> None:
        """Until it ended by itself, and well."""
        wait_until(lambda: not self.alive(), seconds, lambda: f"{self.name} ran on")
        self.require_well()

    def answers(self) -> list[dict[str, Any]]:
        """The lines of JSON it has printed; some systems print others of their own."""
        lines = self.output.read_text(errors="replace").splitlines(keepends=True)
        whole = [line for line in lines if line.startswith("{") and line.endswith("}\n")]
        return [json.loads(line) for line in whole]

    def await_ready(self) -> None:
        def ready() -> bool:
            if not self.alive():
                raise AdapterFailed(f"{self.name} ended before it was ready: {self.said()}")
            return any("ready" in answer for answer in self.answers())

        wait_until(ready, READY_SECONDS, lambda: f"{self.name} was not ready")
        self.cpu_when_ready = self.cpu_so_far()

    def terminate(self) -> None:
        if self.alive():
            os.kill(self.process.pid, signal.SIGTERM)

    def stop(self) -> None:
        """Wait until it ends after `terminate`, and kill it in the end: that is no fault."""
        try:
            wait_until(lambda: not self.alive(), STOP_SECONDS, lambda: f"{self.name} did not stop")
        except DidNotFinish:
            self.killed = True
            self.signal(signal.SIGKILL)
            self.reap()

    def memory(self) -> float:
        """The most it has had in memory so far, in MiB; zero where the system does not tell.

        That of a finished process is of no use: it includes what the process was forked from.
        """
        found = proc(self.process.pid, "status").partition("VmHWM:")[2].split()
        return int(found[0]) / 1024 if found else 0.0

    def cpu_so_far(self) -> float:
        after_name = proc(self.process.pid, "stat").rpartition(")")[2].split()
        return sum(map(int, after_name[11:15])) / TICKS if after_name else 0.0

    def require_well(self) -> None:
        if self.process.returncode != 0:
            code = self.process.returncode
            raise AdapterFailed(f"{self.name} ended with {code}: {self.said()}")

    def said(self) -> str:
        """The last it said, which is where the reason stands."""
        return self.errors.read_text(errors="replace").strip()[-400:]

    def signal(self, which: signal.Signals) -> None:
        os.killpg(self.process.pid, which)

    def reap(self, options: int = 0) -> None:
        pid, status, usage = os.wait4(self.process.pid, options)
        if pid:
            self.process.returncode = os.waitstatus_to_exitcode(status)
            self.cpu = usage.ru_utime + usage.ru_stime - self.cpu_when_ready


def proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


def wait_until(
    happened: Callable[[], bool], seconds: float, failure: Callable[[], str], poll: float = POLL
) -> None:
    """Raise `DidNotFinish` with that failure once the time is over."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise DidNotFinish(f"did not finish: {failure()} after {seconds:.0f} s")
        time.sleep(poll)
