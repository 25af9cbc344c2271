"""Where the code of a running job is just now."""

import sys
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

from oban.running.frames import OURS
from oban.running.run import Run

#: Characters at most, the innermost frames last.
LONGEST: Final = 20_000


def stack_of(run: Run) -> str:
    """The frames of the worker's code, or a sentence that says why there are none to see."""
    if run.kill is not None:
        return "It runs in a child process, whose stack is not to be seen from here."
    frames = list(thread_frames(run.thread_id) if run.thread_id else task_frames(run))
    own = workers_frames(frames)
    if not own:
        return "Its code has not begun, or has just ended."
    summary = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in own)
    return "".join(summary.format())[-LONGEST:]


def thread_frames(thread_id: int) -> list[FrameType]:
    """The outermost first."""
    frame = sys._current_frames().get(thread_id)
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found[::-1]


def task_frames(run: Run) -> Iterator[FrameType]:
    """Those of the coroutines that wait for each other: a task itself tells of the first alone."""
    waiting: Any = run.task.get_coro()
    while waiting is not None:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(waiting, f"{kind}_frame", None)
            if isinstance(frame, FrameType):
                yield frame
                waiting = getattr(waiting, f"{kind}_await", None) or getattr(
                    waiting, f"{kind}_yieldfrom", None
                )
                break
        else:
            return


def workers_frames(frames: list[FrameType]) -> list[FrameType]:
    """From where the worker's code begins: the frames of ours, and of the thread, are left out."""
    ours = [at for at, frame in enumerate(frames) if is_ours(frame)]
    return frames[ours[-1] + 1 :] if ours else []


def is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith(OURS)
