"""The whole of a terminal for a while: nothing else on it, and keys that act at once."""

import asyncio
import logging
import os
import re
import signal
import sys
import termios
import tty
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console, RenderableType
from rich.live import Live

#: What ends a program from outside, and shall leave the terminal as it was.
ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: The key that each of these counts for.
QUIT: Final = "q"
#: What an arrow, or another key without a letter, sends.
NO_KEY: Final = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)


class Screen:
    """Given back as it was, however this is left: by a key, a signal, Ctrl-Z or an error."""

    def __init__(self, console: Console, press: Callable[[str], None]) -> None:
        """`press` is called with each key, and with an empty one when all is to be drawn again."""
        self.console = console
        self.press = press
        self.live = self.make_live()
        self.loop = asyncio.get_running_loop()
        self.keyboard = sys.stdin.fileno() if sys.stdin and sys.stdin.isatty() else None
        self.saved: list[Any] = []
        #: Without a handler Python writes warnings of libraries to the terminal.
        self.silence = logging.NullHandler()

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self.silence)
        for number in ENDING:
            self.loop.add_signal_handler(number, self.press, QUIT)
        self.loop.add_signal_handler(signal.SIGWINCH, self.press, "")
        self.loop.add_signal_handler(signal.SIGTSTP, self.suspend)
        if self.keyboard is not None:
            self.saved = termios.tcgetattr(self.keyboard)
            self.loop.add_reader(self.keyboard, self.read)
        try:
            self.take()
        except BaseException:
            self.give_back()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.give_back()
        if self.keyboard is not None:
            self.loop.remove_reader(self.keyboard)
        for number in (*ENDING, signal.SIGWINCH, signal.SIGTSTP):
            self.loop.remove_signal_handler(number)
        logging.getLogger().removeHandler(self.silence)

    def show(self, renderable: RenderableType) -> None:
        """Draw over what is there, without clearing it first: nothing flickers."""
        self.live.update(renderable, refresh=True)

    def take(self) -> None:
        if self.keyboard is not None:
            tty.setcbreak(self.keyboard)
        self.live = self.make_live()
        self.live.start()

    def give_back(self) -> None:
        try:
            self.live.stop()
        finally:
            if self.keyboard is not None:
                termios.tcsetattr(self.keyboard, termios.TCSADRAIN, self.saved)

    def suspend(self) -> None:
        """What Ctrl-Z does, and coming back from it."""
        self.give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.take()
        self.press("")

    def read(self) -> None:
        assert self.keyboard is not None
        try:
            pressed = os.read(self.keyboard, 1024)
        except OSError:
            pressed = b""
        if not pressed:  # the terminal is gone
            self.press(QUIT)
        for key in NO_KEY.sub("", pressed.decode(errors="replace")):
            self.press(key.lower())

    def make_live(self) -> Live:
        return Live(
            console=self.console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )


def takes_screen(console: Console) -> bool:
    """Whether there is a terminal that can be taken."""
    return console.file.isatty() and console.is_terminal and not console.is_dumb_terminal
