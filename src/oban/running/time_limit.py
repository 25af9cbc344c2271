"""How long an attempt may take: what happens when its time is over."""

import asyncio
from types import TracebackType

from oban import telemetry
from oban.errors import ProcessDied
from oban.interrupt import is_interrupt
from oban.running.frames import workers_part
from oban.running.run import Run


class TimeLimit:
    """Around a run's code: after `seconds` it is asked to end, and made to where that is possible.

    What it fails with from then on is a TimeoutError. What it returns counts all the same, since
    the work was done.
    """

    def __init__(self, run: Run, seconds: float) -> None:
        self.run = run
        self.seconds = seconds
        self.expired = False
        self.has_cancelled = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.handle = asyncio.get_running_loop().call_later(self.seconds, self.expire)

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.handle.cancel()
        if self.has_cancelled:
            self.task.uncancel()
        if error is None or not self.expired or is_interrupt(error):
            return
        if isinstance(error, asyncio.CancelledError) and self.run.is_abandoned():
            return
        raise TimeoutError(
            f"the attempt took longer than its timeout of {self.seconds:g} seconds"
        ) from self.cause(error)

    def cause(self, error: BaseException) -> BaseException | None:
        """What the code was at when it was ended; a process that we killed tells nothing."""
        if isinstance(error, ProcessDied):
            return None
        return error.with_traceback(workers_part(error.__traceback__))

    def expire(self) -> None:
        run = self.run
        self.expired = run.job.stop_requested = run.given.stop_requested = True
        told = {"job": run.job, "timeout": self.seconds, "is_stoppable": not run.threaded}
        telemetry.execute("oban.job.timeout", told)
        if run.threaded:
            run.overdue = True
            return
        self.has_cancelled = run.kill is None
        run.end_code(self.task)
        if run.insist is not None:
            self.handle = run.insist(run)
