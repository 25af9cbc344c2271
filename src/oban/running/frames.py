"""Which part of a traceback is the worker's own."""

from types import TracebackType
from typing import Final

#: Modules of ours that lie between the task of a job and the worker's code.
OURS: Final = ("oban.running.", "oban.worker.")


def workers_part(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback from where the worker's code begins, None if it never did."""
    while traceback is not None and is_ours(traceback):
        traceback = traceback.tb_next
    return traceback


def is_ours(step: TracebackType) -> bool:
    return str(step.tb_frame.f_globals.get("__name__")).startswith(OURS)
