"""Telling a Ctrl-C from a KeyboardInterrupt that a job raises itself."""

import signal
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Final

#: Where `asyncio.run` raises it.
RUNNER: Final = "asyncio.runners"
#: Where code of jobs runs that no Ctrl-C reaches.
THREADS: Final = "oban.running.threads"


def is_interrupt(error: BaseException) -> bool:
    """Whether somebody at the terminal ends the program by this, as far as can be told.

    It reaches the main thread alone, and only a handler of Python's own raises it. Any other is a
    failure of the job, which must not take the program along.
    """
    if not isinstance(error, KeyboardInterrupt):
        return False
    if threading.current_thread() is not threading.main_thread():
        return False
    modules = list(modules_of(error.__traceback__))
    if THREADS in modules:
        return False
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return is_default or modules[-1:] == [RUNNER]


def modules_of(traceback: TracebackType | None) -> Iterator[object]:
    """By frame, the innermost last."""
    while traceback is not None:
        yield traceback.tb_frame.f_globals.get("__name__")
        traceback = traceback.tb_next
