"""Child processes for jobs that would block the interpreter, or may take their process along."""

import asyncio
import atexit
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import TYPE_CHECKING, Any, Final

from oban.errors import NotStarted, ProcessDied, RaisedInProcess
from oban.running.threads import Threads

if TYPE_CHECKING:
    from multiprocessing.synchronize import Semaphore

    from pebble import ProcessPool

    from oban.running.child import Setup

#: Seconds that a child may take to start, and to close what it has opened.
STARTING: Final = 60.0
CLOSING: Final = 3.0
#: Seconds after which a pool is looked at that may have broken while it was given something.
LOOKING: Final = 1.0
#: Signals that a terminal or an init system sends to all: when a job ends is the node's to say.
NODES_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
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
            child.is_used = True
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
        self.context = OneProcess()
        self.dead = False
        #: Released there before anything that was asked is done, and acquired here after it.
        self.begun: Semaphore | None = None
        #: Whether it has been idle, and may have died without anybody knowing.
        self.is_used = False
        #: Whether it did, so that what it was asked last has not begun.
        self.died_idle = False
        #: The workers it has looked for.
        self.sought: set[str] = set()
        #: Held while it is started, and while it is cleaned up after it.
        self.guard = threading.Lock()
        #: Resolved when what was asked last is over, one way or the other.
        self.ended: asyncio.Future[None] | None = None

    @property
    def is_alive(self) -> bool:
        return not self.dead and self.pool is not None and self.pool.active and self.context.lives

    async def start(self, threads: Threads, setup: "Setup") -> None:
        """Raises ProcessDied, or RaisedInProcess for what its resources raised."""
        from oban.running.child import trouble_at_start

        started = await threads.submit(lambda: self.open_pool(setup))  # spawning takes a moment
        if started.error is not None:
            self.dead = True
            raise started.error
        try:
            async with asyncio.timeout(STARTING):
                trouble = await self.call(trouble_at_start)
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
            self.begun = self.context.Semaphore(0)
            self.pool = ProcessPool(
                max_workers=1,
                initializer=open_child,
                initargs=(setup, self.begun),
                context=self.context,
            )
            atexit.register(self.kill)  # the pool would ask it to end, and wait
            assert self.pool.active  # which starts it

    async def find(self, worker: str, module: str | None) -> None:
        """Have it import what the worker needs, which may take longer than a job. As `start`."""
        from oban.running.child import find_worker

        if worker in self.sought:
            return
        try:
            async with asyncio.timeout(STARTING):
                await self.call(find_worker, worker, module)
        except TimeoutError:
            raise ProcessDied(
                f"the child process had not imported {worker} after {STARTING:g} seconds"
            ) from None
        self.sought.add(worker)

    async def run(self, text: str) -> str:
        """Run the job that `text` tells of and return what it came to. Raises ProcessDied."""
        from oban.running.child import run_job

        outcome: str = await self.call(run_job, text)
        return outcome

    async def call(self, function: Callable[..., Any], *args: str | None) -> Any:
        """What the function returns there. Cancelled, it goes on until the child is killed.

        Raises ProcessDied; whether the function had begun is in `died_idle`.
        """
        from oban.running.child import begin

        assert self.pool is not None
        loop = asyncio.get_running_loop()
        ended = self.ended = loop.create_future()

        def tell(_: "Future[Any]") -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(resolve, ended)

        try:
            answer = self.pool.schedule(begin, (function, *args))
        except RuntimeError:
            self.died_idle = self.is_used and not self.dead
            raise self.died("it had ended before") from None
        answer.add_done_callback(tell)
        await self.until_over(ended)
        gone = not self.context.lives  # first: what has ended begins nothing any more
        begun = self.has_begun()
        error = answer.exception() if answer.done() else None
        if answer.done() and error is None:
            return answer.result()
        if self.dead and error is None:
            raise self.died("it was killed by SIGKILL")
        self.died_idle = self.is_used and gone and not begun and not self.dead
        code = getattr(error, "exitcode", None)
        raise self.died(how_it_ended(self.context.exit_code if code is None else code))

    async def until_over(self, ended: "asyncio.Future[None]") -> None:
        """Wait for it, or for the pool to break, which may forget what it was given just then."""
        assert self.pool is not None
        while not ended.done() and self.pool.active:
            await asyncio.wait([ended], timeout=LOOKING)

    def has_begun(self) -> bool:
        """Whether the child has begun with what it was asked last. Asked once for each."""
        return self.begun is not None and self.begun.acquire(block=False)

    def died(self, how: str) -> ProcessDied:
        self.kill()  # what it has started goes with it
        pid = self.context.pid
        process = "the child process" if pid is None else f"the child process {pid}"
        return ProcessDied(f"{process} died before the job had ended: {how}")

    def kill(self) -> None:
        """End it at once, whatever it does, with all that it has started."""
        if not self.dead:
            self.context.kill()
        self.dead = True
        if self.ended is not None:  # the pool finds out too, but later than a stop may wait
            resolve(self.ended)

    async def close(self) -> None:
        from oban.running.child import close_child

        with suppress(ProcessDied, TimeoutError):
            async with asyncio.timeout(CLOSING):
                await self.call(close_child)
        self.kill()

    def end(self) -> None:
        """Stop the pool and wait for it; blocks."""
        with self.guard:  # it may be starting yet, for nobody
            if self.pool is not None:
                self.pool.stop()  # type: ignore[no-untyped-call]  # as it is written there
                self.context.kill()
                self.pool.join()
                atexit.unregister(self.kill)


class OneProcess(SpawnContext):
    """Where a pool has its process from; it gets no other when that has ended.

    Spawned, never a fork of this process: its threads may hold locks that nobody would free.
    """

    def __init__(self) -> None:
        super().__init__()
        self.process: SpawnProcess | None = None

    def Process(self, *args: Any, **options: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802  # as it is called there
        if self.process is not None:
            raise OSError("the child process has ended")  # the pool is told so, and gives up
        self.process = QuietlyStarted(*args, **options)
        return self.process

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.pid

    @property
    def lives(self) -> bool:
        return self.process is not None and self.process.is_alive()

    @property
    def exit_code(self) -> int | None:
        return None if self.process is None else self.process.exitcode

    def kill(self) -> None:
        """Kill its session, which begins a moment after it does."""
        if self.pid is not None:
            with suppress(ProcessLookupError, PermissionError):  # there is none (on macOS: alive)
                os.killpg(self.pid, signal.SIGKILL)
            if self.lives:
                with suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)


class QuietlyStarted(SpawnProcess):
    """Holds back the signals that are for its node until it can tell them apart."""

    def start(self) -> None:
        resource_tracker.ensure_running()  # which starts first, and would let them through
        before = signal.pthread_sigmask(signal.SIG_BLOCK, NODES_SIGNALS)
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def resolve(ended: "asyncio.Future[None]") -> None:
    if not ended.done():
        ended.set_result(None)


def how_it_ended(code: int | None) -> str:
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
