"""Real child processes under a test's control: their output, their signals, their end."""

import asyncio
import codecs
import contextlib
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

PYTHON = Path(sys.executable)
OBAN = PYTHON.with_name("oban")  # the command line as installed beside this interpreter

MAX_OUTPUT = 64 * 2**20
TAIL = 20  # lines of output shown when something expected did not come
PATIENCE = 5.0  # seconds for a killed process to be gone


class ProcessEnded(Exception):
    """The output ended before the line that was waited for."""


class Process:
    """A command run in a process group of its own, both output streams written to a file.

        async with Process(PYTHON, "worker.py", log=tmp_path / "worker.log") as process:
            await process.line(r"ran job (\\d+)")
            process.terminate()
            assert await process.exited() == 0

    Leaving kills the group: the process, stopped or not, and the children it left. One that
    prints more than 64 MB is killed, too.
    """

    def __init__(
        self,
        *command: str | Path,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self._command = [str(part) for part in command]
        self._log = log
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        self._cwd = cwd
        self._lines: list[str] = []
        self._more = asyncio.Event()
        self._stack = contextlib.AsyncExitStack()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal, None while it runs."""
        return self._process.returncode

    @property
    def output(self) -> str:
        """What it has printed so far, in whole lines."""
        return "\n".join(self._lines)

    async def line(self, pattern: str, *, count: int = 1, timeout: float = 10.0) -> re.Match[str]:
        """Wait for the line that matches as the `count`th since the start; return that match.

        Raises `TimeoutError`, or `ProcessEnded` when no line can come any more; both show the
        last lines of the output.
        """
        wanted = re.compile(pattern)
        matches: list[re.Match[str]] = []
        seen = 0
        try:
            async with asyncio.timeout(timeout):
                while True:
                    more, ended = self._more, self._reading.done()
                    matches += filter(None, map(wanted.search, self._lines[seen:]))
                    seen = len(self._lines)
                    if len(matches) >= count:
                        return matches[count - 1]
                    if ended:
                        with contextlib.suppress(TimeoutError):  # for the message's exit code
                            await self.exited(timeout=1)
                        raise ProcessEnded(self._missing(pattern, "before its output ended"))
                    await more.wait()
        except TimeoutError:
            raise TimeoutError(self._missing(pattern, f"in {timeout} s")) from None

    async def exited(self, *, timeout: float = 10.0) -> int:
        """Wait for its end and the end of its output; return the exit code, negative for a signal.

        Output that its own children still hold open is not waited for.
        """
        try:
            async with asyncio.timeout(timeout):
                code = await self._process.wait()
        except TimeoutError:
            raise TimeoutError(f"{self._name} did not exit in {timeout} s{self._tail}") from None
        await asyncio.wait([self._reading], timeout=1)
        return code

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process itself; its children do not get it."""
        self._process.send_signal(number)

    def terminate(self) -> None:
        self.send(signal.SIGTERM)

    def kill(self) -> None:
        self.send(signal.SIGKILL)

    def stop(self) -> None:
        """Freeze it (SIGSTOP), with its connections open."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self.send(signal.SIGCONT)

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            file = stack.enter_context(self._log.open("wb", buffering=0))
            # A pipe of our own: whoever else holds its other end cannot keep `exited` waiting.
            read_end, write_end = os.pipe()
            try:
                stream = asyncio.StreamReader()
                transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                    lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(read_end, "rb")
                )
                stack.callback(transport.close)
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=write_end,
                    stderr=write_end,
                    env=self._env,
                    cwd=self._cwd,
                    start_new_session=True,
                )
            finally:
                os.close(write_end)
            self._reading = asyncio.create_task(self._read(stream, file))
            self._reading.add_done_callback(lambda _: self._add([]))  # wakes who waits
            stack.push_async_callback(self._end)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def _read(self, stream: asyncio.StreamReader, file: BinaryIO) -> None:
        """Keep what comes, in the file as it is and here as lines, and wake who waits for one."""
        rest, size = "", 0
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        while chunk := await stream.read(64 * 1024):
            file.write(chunk)
            *lines, rest = (rest + decode(chunk)).split("\n")
            size += len(chunk)
            if size > MAX_OUTPUT:
                rest = f"[killed: it printed more than {MAX_OUTPUT} bytes]"
                self._kill_group()
                break
            self._add(lines)
        if rest:
            self._add([rest])

    def _add(self, lines: list[str]) -> None:
        self._lines += lines
        self._more.set()
        self._more = asyncio.Event()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def _end(self) -> None:
        self._kill_group()
        async with asyncio.timeout(PATIENCE):
            await self._process.wait()
        done, _ = await asyncio.wait([self._reading], timeout=1)
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        for reading in done:
            reading.result()

    def _missing(self, pattern: str, when: str) -> str:
        return f"{self._name} did not print {pattern!r} {when}{self._tail}"

    @property
    def _name(self) -> str:
        return " ".join(Path(part).name for part in self._command)

    @property
    def _tail(self) -> str:
        shown = self._lines[-TAIL:] or ["(nothing)"]
        return f" (exit code {self.returncode}); it printed last:\n" + "\n".join(shown)
