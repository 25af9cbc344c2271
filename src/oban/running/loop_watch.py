"""Asking the event loop from outside, so that its silence is seen and the culprit named."""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

from oban import telemetry
from oban.job import Job

T = TypeVar("T")

#: Seconds without an answer after which the loop counts as blocked.
PATIENCE: Final = 1.0


class LoopWatch(Generic[T]):
    """Has `take` called on the loop, from a thread, and notes how long that took to be answered.

    While the loop is blocked the last answer stands. `culprit` names the job of a task.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        take: Callable[[], T],
        culprit: Callable[["asyncio.Task[object] | None"], Job | None],
        *,
        patience: float,
        max_block: float,
    ) -> None:
        self.loop = loop
        self.take = take
        self.culprit = culprit
        self.patience = patience
        self.max_block = max_block
        self.thread_id = threading.get_ident()
        self.answer: T = take()
        #: Seconds that the loop took to answer, or has taken so far.
        self.lag = 0.0
        #: A question that is not answered yet, and when it was put.
        self.asked: tuple[Future[T], float] | None = None
        #: The next length of silence, in seconds, that is worth an event.
        self.report_at = patience

    @property
    def wedged(self) -> bool:
        """Whether the loop has been blocked for so long that the process counts as dead."""
        return self.asked is not None and self.lag >= self.max_block

    async def look(self) -> T:
        """The newest answer there is, waiting `patience` at most. Called from the thread's loop.

        Raises RuntimeError when the loop has been closed.
        """
        future, asked_at = self.asked or self.ask()
        self.asked = (future, asked_at)
        await asyncio.wait([asyncio.wrap_future(future)], timeout=self.patience)
        self.lag = time.monotonic() - asked_at
        if future.done():
            self.asked = None
            self.answer = future.result()
            self.report_unblocked()
        else:
            self.report_blocked()
        return self.answer

    def ask(self) -> tuple["Future[T]", float]:
        future: Future[T] = Future()

        def reply() -> None:
            try:
                future.set_result(self.take())
            except Exception as error:  # noqa: BLE001  # raised where it was asked
                future.set_exception(error)

        asked_at = time.monotonic()
        self.loop.call_soon_threadsafe(reply)
        return future, asked_at

    def report_blocked(self) -> None:
        """Tell it at once, and again each time the silence has doubled."""
        if self.lag < self.report_at:
            return
        wedged = self.lag >= self.max_block
        self.report_at = self.lag * 2 if wedged else min(self.lag * 2, self.max_block)
        metadata: telemetry.Metadata = {"seconds": round(self.lag, 3)}
        if job := self.culprit(asyncio.current_task(self.loop)):
            metadata |= {"job": job, "worker": job.worker}
        metadata["traceback"] = all_stacks() if wedged else self.stack()
        telemetry.execute(f"oban.refresher.{'wedged' if wedged else 'blocked'}", metadata)

    def report_unblocked(self) -> None:
        if self.report_at > self.patience:
            telemetry.execute("oban.refresher.unblocked", {"seconds": round(self.lag, 3)})
        self.report_at = self.patience

    def stack(self) -> str:
        """Where the loop's thread is now."""
        frame = sys._current_frames().get(self.thread_id)
        return "" if frame is None else "".join(traceback.format_stack(frame))


def all_stacks() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"thread {names.get(identity, identity)}:\n{''.join(traceback.format_stack(frame))}"
        for identity, frame in sys._current_frames().items()
    )
