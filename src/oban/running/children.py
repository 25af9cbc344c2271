"""Child processes for jobs that would block the interpreter, or may take their process along."""

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from oban.errors import NotStarted, ProcessDied, RaisedInProcess
from oban.running.threads import Threads

if TYPE_CHECKING:
    from pebble import ProcessPool

    from oban.running.child import Setup

#: Seconds that a child may take to start, and to close what it has opened.
STARTING: Final = 60.0
CLOSING: Final = 3.0
#: Seconds in which the pool tells how a child has ended.
TELLING: Final = 0.5
NEEDS_PEBBLE: Final = (
    'executor="process" needs the package pebble; install it with: pip install "oban[process]"'
)


class Children:
    """Starts a child when a job needs one and none is idle, at most `size` at a time.

    Each runs one job at a time, any number of them, and ends alone.
    """

    def __init__(self, threads: Threads, size: int | None = None) -> None:
        self.threads = threads
        self.size = usable_cores() if size is None else size
        self.idle: list[ChildProcess] = []
        self.ending: set[asyncio.Future[Any]] = set()
        self.loop: asyncio.AbstractEventLoop | None = None

    @asynccontextmanager
    async def borrow(self, setup: "Callable[[], Setup]") -> AsyncIterator["ChildProcess"]:
        """Have a child to oneself, waiting for one if all are busy.

        Left by an error that is not the job's, a cancellation say, it is killed.
        """
        async with self.places():
            child = self.take_idle()
            try:
                if child is None:
                    child = ChildProcess()
                    await child.start(self.threads, setup())
                yield child
            except RaisedInProcess:
                raise
            except BaseException:
                if child is not None:
                    child.kill()
                raise
            finally:
                if child is not None:
                    self.put_back(child)

    def places(self) -> asyncio.Semaphore:
        """One for each loop that this is used on, one after the other."""
        loop = asyncio.get_running_loop()
        if self.loop is not loop:
            self.loop, self.free = loop, asyncio.Semaphore(self.size)
            self.ending.clear()
        return self.free

    def take_idle(self) -> "ChildProcess | None":
        while self.idle:
            child = self.idle.pop()
            if child.is_alive:
                return child
            self.end(child)
        return None

    def put_back(self, child: "ChildProcess") -> None:
        if child.is_alive:
            self.idle.append(child)
        else:
            self.end(child)

    def end(self, child: "ChildProcess") -> None:
        """Clean up after it on a thread: the pool waits for its own threads and processes."""
        work = self.threads.submit(child.end)
        self.ending.add(work)
        work.add_done_callback(self.ending.discard)

    async def close(self) -> None:
        """End all children, which close what they have opened, within a few seconds."""
        idle, self.idle = self.idle, []
        await asyncio.gather(*(child.close() for child in idle))
        self.places()
        for child in idle:
            self.end(child)
        if self.ending:
            await asyncio.wait(self.ending, timeout=CLOSING)


class ChildProcess:
    """One process, in a pool of its own: in a shared one its death could stop the others.

    Whoever dies with the pool's lock in his hands leaves it locked for all.
    """

    def __init__(self) -> None:
        self.pool: ProcessPool | None = None
        self.pid: int | None = None
        self.dead = False
        #: Becomes readable when it dies, where the system has such a thing.
        self.pidfd: int | None = None
        #: Held while it is started, and while it is cleaned up after it.
        self.guard = threading.Lock()
        #: Resolved when what was asked last is over, one way or the other.
        self.ended: asyncio.Future[None] | None = None

    @property
    def is_alive(self) -> bool:
        return not self.dead and self.pool is not None and self.pool.active

    async def start(self, threads: Threads, setup: "Setup") -> None:
        """Raises ProcessDied, or RaisedInProcess for what its resources raised."""
        from oban.running.child import is_ready

        started = await threads.submit(lambda: self.open_pool(setup))  # spawning takes a moment
        if started.error is not None:
            self.dead = True
            raise started.error
        try:
            async with asyncio.timeout(STARTING):
                self.pid, trouble = await self.call(is_ready)
            self.pidfd = open_pidfd(self.pid)
        except TimeoutError:
            raise ProcessDied(f"the child process was not up after {STARTING:g} seconds") from None
        except ProcessDied as error:
            error.add_note(
                "It died while it started. A program that starts Oban itself does so below "
                '`if __name__ == "__main__":`, since each child imports it.'
            )
            raise
        if trouble is not None:
            from oban.running.crossing import read_outcome

            self.kill()
            read_outcome(trouble)

    def open_pool(self, setup: "Setup") -> None:
        try:
            from pebble import ProcessPool
        except ImportError:
            raise ImportError(NEEDS_PEBBLE) from None
        from oban.running.child import open_child

        with self.guard:
            if self.dead:
                raise ProcessDied("the child process was given up before it had started")
            self.pool = ProcessPool(
                max_workers=1,
                initializer=open_child,
                initargs=(setup,),
                # Never a fork of this process: its threads may hold locks that nobody would free.
                context=multiprocessing.get_context("spawn"),
            )
            assert self.pool.active  # which starts it

    async def run(self, text: str) -> str:
        """Run the job that `text` tells of and return what it came to. Raises ProcessDied."""
        from oban.running.child import run_job

        outcome: str = await self.call(run_job, text)
        return outcome

    async def call(self, function: Callable[..., Any], *args: str) -> Any:
        """What the function returns there. Cancelled, it goes on until the child is killed."""
        assert self.pool is not None
        loop = asyncio.get_running_loop()
        ended = self.ended = loop.create_future()

        def tell(_: "Future[Any]") -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(resolve, ended)

        try:
            answer = self.pool.schedule(function, args)
            answer.add_done_callback(tell)
            if self.pidfd is None:
                # Whoever takes its place after an exit with code 0 does this, which stands behind.
                self.pool.schedule(os.getpid).add_done_callback(tell)
        except RuntimeError:
            raise self.died("it had ended before") from None
        with self.watched(loop, ended):
            await ended
        if not answer.done():
            raise self.died("it was killed by SIGKILL" if self.dead else "it exited with code 0")
        error = answer.exception()
        if error is not None:
            raise self.died(how_it_ended(error))
        return answer.result()

    @contextmanager
    def watched(
        self, loop: asyncio.AbstractEventLoop, ended: "asyncio.Future[None]"
    ) -> Iterator[None]:
        """Notice an end that the pool keeps to itself: it takes an exit with code 0 for an order.

        Then the answer never comes. Of every other end the pool tells within a moment.
        """
        if self.pidfd is None:
            yield
            return
        fd = self.pidfd

        def gone() -> None:
            loop.remove_reader(fd)
            loop.call_later(TELLING, resolve, ended)

        loop.add_reader(fd, gone)
        try:
            yield
        finally:
            loop.remove_reader(fd)

    def died(self, how: str) -> ProcessDied:
        self.dead = True
        process = "the child process" if self.pid is None else f"the child process {self.pid}"
        return ProcessDied(f"{process} died before the job had ended: {how}")

    def kill(self) -> None:
        """End it at once, whatever it does: none of its code runs any more when this returns."""
        if not self.dead and self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.dead = True
        if self.ended is not None:  # the pool finds out too, but later than a stop may wait
            resolve(self.ended)

    async def close(self) -> None:
        from oban.running.child import close_child

        with suppress(ProcessDied, TimeoutError):
            async with asyncio.timeout(CLOSING):
                await self.call(close_child)
        self.dead = True

    def end(self) -> None:
        """Stop the pool and wait for it; blocks."""
        with self.guard:  # it may be starting yet, for nobody
            if self.pool is not None:
                self.pool.stop()  # type: ignore[no-untyped-call]  # as it is written there
                self.pool.join()
            if self.pidfd is not None:
                os.close(self.pidfd)
                self.pidfd = None


def open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # not of this system, or not allowed here
        return None


def resolve(ended: "asyncio.Future[None]") -> None:
    if not ended.done():
        ended.set_result(None)


def how_it_ended(error: BaseException) -> str:
    code = getattr(error, "exitcode", None)
    if code is None:
        return "how is not known"
    if code < 0:
        return f"it was killed by {signal.Signals(-code).name}"
    return f"it exited with code {code}"


def refuse_in_child() -> None:
    """Raise NotStarted while a child of this very program imports it: it would run queues too."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise NotStarted(
            "this is a child process that imports the program of its node; start Oban below "
            '`if __name__ == "__main__":` there'
        )


def usable_cores() -> int:
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1
