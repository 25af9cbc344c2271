"""What runs in a child process: it opens resources once, then runs one job after the other.

The pool hands functions over by their name, so what they share stands in the module.
"""

import asyncio
import fcntl
import inspect
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, parent_process
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from oban import telemetry
from oban.current import CURRENT
from oban.lookup import WorkerFinder
from oban.lookup.location import import_module
from oban.outcome import RateLimited
from oban.running.children import NODES_SIGNALS
from oban.running.crossing import read_job, write_error, write_outcome
from oban.running.frames import workers_part
from oban.running.resources import Sent, open_in_child
from oban.worker import Definition, worker_named

if TYPE_CHECKING:
    from multiprocessing.synchronize import Semaphore


@dataclass(frozen=True, slots=True)
class Setup:
    """What a child is started with; it holds nothing that came from a row."""

    root: Path
    worker_modules: tuple[str, ...] | None
    factories: dict[str, Sent] = field(default_factory=dict)
    #: Why other resources cannot be had here.
    missing: dict[str, str] = field(default_factory=dict)


class Child:
    #: Where it tells its node that it begins with what it was asked.
    begun: "Semaphore"

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.resources: Mapping[str, Any] = {}
        self.trouble: str | None = None
        #: Of the job that runs, or has run last.
        self.definition: Definition | None = None

    def open(self, setup: Setup) -> None:
        try:
            self.finder = WorkerFinder(setup.root, setup.worker_modules)
            self.resources = open_in_child(self.stack, setup.factories, setup.missing)
        except BaseException as error:  # noqa: BLE001  # foreign code; told when the node asks
            self.trouble = write_error(telemetry.describe_error(error))

    def find(self, worker: str, module: str | None) -> Definition:
        if module is not None and worker_named(worker) is None:
            import_module(module)  # the node has it; why it fails here the search below tells
        return self.finder.find(worker)

    def run(self, text: str) -> Any:
        given = read_job(text)
        job = given.job
        self.definition = None
        definition = self.definition = self.find(job.worker, given.module)
        job.resources = self.resources
        CURRENT.set(job)
        # Not the job: its arguments, which may have been decrypted, are for its code alone.
        told = {"id": job.id, "worker": job.worker, "carried": given.carried}
        try:
            with telemetry.span("oban.child.run", told):
                value = definition.call(job)
                return asyncio.run(result_of(value)) if inspect.isawaitable(value) else value
        finally:
            CURRENT.set(None)

    def rule_for(self, error: BaseException) -> str | None:
        """What the node knows the rule for this error by; classes do not cross."""
        return None if self.definition is None else self.definition.policy.name_for(error)


CHILD: Final = Child()


async def result_of(work: Awaitable[Any]) -> Any:
    return await work


def open_child(setup: Setup, begun: "Semaphore") -> None:
    """Begin: from here on the process ends with its node, however that ends, and only with it."""
    CHILD.begun = begun
    stand_apart()
    end_with_node()
    CHILD.open(setup)


def stand_apart() -> None:
    """Lead a session, which can be killed as one, and leave the node's signals to the node."""
    os.setsid()
    for number in NODES_SIGNALS:
        # Not ignored: that would hold for the programs, too, that a job starts.
        signal.signal(number, leave_to_node)
    forking = Forking()
    os.register_at_fork(
        before=forking.hold_signals,
        after_in_parent=forking.let_signals_through,
        after_in_child=forking.take_signals_again,
    )
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NODES_SIGNALS)


def leave_to_node(_number: int, _frame: FrameType | None) -> None: ...


class Forking(threading.local):
    """A process that a job forks, one of a pool say, ends by the node's signals as any other.

    They are held back while it begins: one that came before it takes them again would be lost, and
    whoever sent it would wait for an end that never comes.
    """

    mask: Iterable[int] = ()

    def hold_signals(self) -> None:
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, NODES_SIGNALS)

    def let_signals_through(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)

    def take_signals_again(self) -> None:
        for number in NODES_SIGNALS:
            if signal.getsignal(number) is leave_to_node:
                signal.signal(number, signal.SIG_DFL)
        self.let_signals_through()


def end_with_node() -> None:
    """End this session at once when the node is gone: its job is run again elsewhere.

    That must not run beside it. The kernel sees to it where it can, since no thread of ours has its
    turn while C code holds the interpreter.
    """
    node = parent_process()
    assert node is not None
    if sys.platform == "linux":
        with suppress(OSError):
            fcntl.fcntl(node.sentinel, fcntl.F_SETOWN, -os.getpid())
            fcntl.fcntl(node.sentinel, fcntl.F_SETSIG, signal.SIGKILL)
            flags = fcntl.fcntl(node.sentinel, fcntl.F_GETFL)
            fcntl.fcntl(node.sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)

    def wait() -> None:
        connection.wait([node.sentinel])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, name="oban node", daemon=True).start()


def begin(function: Callable[..., Any], *args: Any) -> Any:
    """Do it, having said so: what a child dies of before that is not what it was asked."""
    CHILD.begun.release()
    return function(*args)


def trouble_at_start() -> str | None:
    """What went wrong when it began."""
    return CHILD.trouble


def find_worker(worker: str, module: str | None) -> None:
    with suppress(BaseException):  # running it fails in the same way, and tells
        CHILD.find(worker, module)


def run_job(text: str) -> str:
    """Run the job and return what it came to; whatever it raises is told, not raised."""
    pid = os.getpid()
    raised: BaseException | None = None
    try:
        outcome = write_outcome(CHILD.run(text))
    except RateLimited as asked:
        outcome = write_outcome(asked)
    except BaseException as error:  # noqa: BLE001  # a job's failure of any kind is its own
        raised = error
        told = telemetry.describe_error(error, workers_part(error.__traceback__))
        outcome = write_error(told, CHILD.rule_for(error))
    if os.getpid() != pid:  # a copy that the job has made of this process came back as well
        os._exit(exit_code(raised))
    return outcome


def exit_code(error: BaseException | None) -> int:
    """What a process ends with by this, as Python has it."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return int(error is not None)


def close_child() -> None:
    CHILD.stack.close()
