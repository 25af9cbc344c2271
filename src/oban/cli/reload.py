"""`oban start --reload`: a node that restarts when its code changes."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Final

from oban.cli.database import reachable
from oban.cli.failures import Failed
from oban.cli.terminal import say
from oban.configuration import EMBEDDED, Configuration
from oban.phrases import counted, listed

#: The shutdown grace of a node that restarts, unless another is given: nobody likes to wait.
GRACE: Final = 1.0
CONFIGURATIONS: Final = ("oban.toml", "pyproject.toml")
#: Milliseconds between two looks at the child.
LOOK: Final = 300


def run_reloading(app_dir: Path, chosen: Configuration, *, quick: bool) -> int:
    """Run `oban start` as a child and restart it whenever a file under `app_dir` changes."""
    try:
        from watchfiles import PythonFilter, watch
    except ImportError:
        raise Failed("--reload needs the package watchfiles: pip install 'oban[reload]'") from None
    child = Child(quick=quick)
    stop = threading.Event()

    def receive(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            child.send(signal.SIGINT)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, receive)
    # Claimed here as well, the embedded server does not stop and start with each child.
    with reachable(chosen) if chosen.dsn == EMBEDDED else nullcontext():
        say(("reload: ", "cyan"), f"watching {app_dir}")
        child.start()
        for changes in watch(
            app_dir,
            watch_filter=PythonFilter(extra_extensions=CONFIGURATIONS),
            stop_event=stop,
            rust_timeout=LOOK,
            yield_on_timeout=True,
            raise_interrupt=False,
        ):
            if changes:
                say(("reload: ", "cyan"), f"restarting, {changed(app_dir, changes)}")
                child.stop()
                child.start()
            elif (code := child.newly_ended()) is not None:
                say(("reload: ", "cyan"), f"it ended with code {code}; waiting for a change")
        child.stop()
    return 0


def changed(app_dir: Path, changes: Iterable[tuple[object, str]]) -> str:
    files = sorted({str(Path(path).relative_to(app_dir)) for _, path in changes})
    return f"{counted(len(files), 'file')} changed: {listed(files, 3)}"


class Child:
    """The node: in our process group, so that Ctrl-C and a debugger reach it."""

    def __init__(self, *, quick: bool) -> None:
        arguments = [each for each in sys.argv[1:] if each != "--reload"]
        grace = ["--shutdown-grace-period", str(GRACE)] if quick else []
        self.command = [sys.executable, "-m", "oban", *arguments, *grace]
        self.process: subprocess.Popen[bytes] | None = None
        self.ended = False

    def start(self) -> None:
        self.ended = False
        command = [*self.command, "--parent", str(os.getpid())]
        self.process = subprocess.Popen(command)  # noqa: S603  # ourselves, again

    def stop(self) -> None:
        """Ask it to stop, and wait. It hears Ctrl-C itself; being asked twice is harmless."""
        self.send(signal.SIGTERM)
        if self.process is not None:
            self.process.wait()

    def send(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)

    def newly_ended(self) -> int | None:
        """Its exit code, told once, if it has ended by itself."""
        if self.process is None or self.ended or (code := self.process.poll()) is None:
            return None
        self.ended = True
        return code
