"""A command on a terminal of its own: what it prints there, and keys pressed when it asks."""

import fcntl
import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


class Terminal:
    def __init__(self, process: "subprocess.Popen[bytes]", screen: int) -> None:
        self.process = process
        self.screen = screen
        self.output = ""

    def read(self, until: str | None = None, timeout: float = 20.0) -> str:
        """Wait for a text, or for the end of the output; return all there was."""
        ends = time.monotonic() + timeout
        while until is None or until not in self.output:
            assert time.monotonic() < ends, f"no {until!r} in:\n{self.output}"
            if not select.select([self.screen], [], [], 0.1)[0]:
                continue
            try:
                chunk = os.read(self.screen, 65_536)
            except OSError:  # how Linux says that nobody holds the terminal any more
                chunk = b""
            if not chunk:
                assert until is None, f"it ended without {until!r}:\n{self.output}"
                break
            self.output += chunk.decode(errors="replace")
        return self.output

    def press(self, keys: str) -> None:
        os.write(self.screen, keys.encode())

    def resize(self, width: int, height: int) -> None:
        termios.tcsetwinsize(self.screen, (height, width))

    def exited(self) -> int:
        self.read()
        return self.process.wait(timeout=10)


@contextmanager
def terminal(
    *command: str | Path,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    size: tuple[int, int] | None = None,
) -> Iterator[Terminal]:
    """Run a command whose three streams are a terminal that has colours.

    With a size, it is also the one whose keys and changes of size become signals.
    """
    screen, inner = pty.openpty()
    sized = {"COLUMNS": "100"}
    if size is not None:
        sized = {}
        termios.tcsetwinsize(screen, size[::-1])
    plain = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        command,
        stdin=inner,
        stdout=inner,
        stderr=inner,
        cwd=cwd,
        env={**plain, "TERM": "xterm-256color", **sized, **(env or {})},
        start_new_session=True,
        preexec_fn=None if size is None else take_terminal,
    )
    os.close(inner)
    try:
        yield Terminal(process, screen)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(screen)


def take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
