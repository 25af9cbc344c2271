"""How a node hears that it shall stop, and how its process ends."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final, NoReturn

from oban.cli.failures import INTERRUPTED

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """SIGTERM or a SIGINT asks to stop; a SIGINT after that ends the process at once.

    The handlers are Python's and not the loop's: they run even while a worker blocks the loop.
    Setting them also makes the signals count for a process that is number 1 of its container.
    """

    def __init__(self) -> None:
        self.first: signal.Signals | None = None
        #: When it came, by the monotonic clock.
        self.first_at = 0.0
        #: For whoever waits on a thread.
        self.told = threading.Event()
        #: For whoever waits on the loop.
        self.asked = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        #: Lets go of what must not outlive the process, even when that ends at once.
        self.release: Callable[[], None] = lambda: None

    def listen(self) -> None:
        for number in SIGNALS:
            signal.signal(number, self.receive)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From here on a signal is answered by whoever waits for it on this loop."""
        self.loop = loop

    def receive(self, number: int, _frame: FrameType | None) -> None:
        if self.first is None:
            self.first, self.first_at = signal.Signals(number), time.monotonic()
            if self.loop is None:
                raise KeyboardInterrupt
            self.told.set()
            self.loop.call_soon_threadsafe(self.asked.set)
        elif number == signal.SIGINT:
            with contextlib.suppress(Exception):
                self.release()
            os._exit(INTERRUPTED)


def leave(code: int) -> NoReturn:
    """End the process now, with everything said.

    Python would wait for the threads of the application, and asyncio for tasks that swallow their
    cancellation.
    """
    for finish in (logging.shutdown, sys.stdout.flush, sys.stderr.flush):
        with contextlib.suppress(Exception):
            finish()
    os._exit(code)
