"""Tracebacks as Python writes them; the same one again in a fraction of the time.

When something is away that all jobs need, thousands fail in one place, and writing down how each
got there would take most of the time.
"""

import traceback
from collections.abc import Iterator
from types import CodeType, TracebackType
from typing import Final

#: Ways that are remembered, and how long they are at most.
MOST_WAYS: Final = 256
LONGEST_WAY: Final = 64
#: Code is equal to code of another file that reads the same, hence the file.
Way = tuple[tuple[CodeType, str, int, int], ...]

#: What was written of a way before. Emptied when it is full.
_written: dict[Way, str] = {}


def write_traceback(error: BaseException, since: TracebackType | None) -> str:
    """The error with the way it took from `since` on, and with all that it was caused by."""
    if since is None or not is_plain(error):
        return "".join(traceback.format_exception(type(error), error, since))
    return write_way(since) + "".join(traceback.format_exception_only(error))


def is_plain(error: BaseException) -> bool:
    """Whether nothing is written but one way and the error itself."""
    has_context = error.__context__ is not None and not error.__suppress_context__
    return error.__cause__ is None and not has_context and not isinstance(error, BaseExceptionGroup)


def write_way(since: TracebackType) -> str:
    way = tuple(
        (code := step.tb_frame.f_code, code.co_filename, step.tb_lasti, step.tb_lineno)
        for step in steps(since)
    )
    written = _written.get(way)
    if written is None:
        lines = traceback.format_tb(since)
        written = "".join(["Traceback (most recent call last):\n", *lines])
        if len(way) <= LONGEST_WAY:
            if len(_written) >= MOST_WAYS:
                _written.clear()
            _written[way] = written
    return written


def steps(since: TracebackType) -> Iterator[TracebackType]:
    step: TracebackType | None = since
    while step is not None:
        yield step
        step = step.tb_next
