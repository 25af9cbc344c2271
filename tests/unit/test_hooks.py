"""Hooks around jobs: their order, what each may change, and what becomes of what they raise."""

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import pytest

from oban import (
    Cancel,
    Hooks,
    Job,
    JobState,
    RateLimited,
    Record,
    Snooze,
    Worker,
    job,
    telemetry,
    worker,
)
from oban.errors import InvalidOption
from oban.lookup import WorkerFinder
from oban.outcome import Ack
from oban.running.executor import Executor
from oban.running.places import Places
from oban.running.run import Run, StopReason
from oban.running.threads import Threads
from oban.worker.hooks import clean_hooks

PLACES: Final = Places(Threads("test"))
#: What has happened, in order, and what the workers of this module do.
CALLS: list[str] = []
DO: dict[str, Callable[[Job], Any]] = {}
SESSION: contextvars.ContextVar[str] = contextvars.ContextVar("session", default="none")


@pytest.fixture(autouse=True)
def fresh() -> None:
    CALLS.clear()
    DO.clear()
    DO["run"] = lambda job: CALLS.append("process")


class Log(Hooks):
    """Has all four, and says which is called."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def before_process(self, job: Job) -> None:
        CALLS.append(f"{self.name} before")

    async def after_process(self, job: Job, result: Any) -> None:
        CALLS.append(f"{self.name} after {result!r}")

    async def on_error(self, job: Job, error: BaseException) -> None:
        CALLS.append(f"{self.name} error {error}")

    async def around(self, job: Job, call_next: Callable[[], Awaitable[Any]]) -> Any:
        CALLS.append(f"{self.name} enters")
        try:
            return await call_next()
        finally:
            CALLS.append(f"{self.name} leaves")


@worker(hooks=[Log("given")])
class Plain(Worker):
    async def process(self, job: Job) -> Any:
        returned = DO["run"](job)
        return await returned if asyncio.iscoroutine(returned) else returned


@worker(hooks=[Log("given")])
class OnAThread(Worker):
    def process(self, job: Job) -> Any:
        return DO["run"](job)


@worker()
class Own(Worker):
    """Hooks of its own, on the instance that runs the job."""

    async def before_process(self, job: Job) -> None:
        self.opened = "session"

    async def around(self, job: Job, call_next: Callable[[], Awaitable[Any]]) -> Any:
        return [await call_next(), self.opened]

    async def process(self, job: Job) -> Any:
        return self.opened

    def after_process(self, job: Job, result: Any) -> None:
        CALLS.append(f"after {result} {self.opened}")


@worker()
class OwnOnAThread(Worker):
    def before_process(self, job: Job) -> Any:
        CALLS.append(f"before {threading.current_thread() is threading.main_thread()}")
        self.thread = threading.get_ident()
        return job.args.get("early") and Cancel("too early")

    def around(self, job: Job, call_next: Callable[[], Any]) -> Any:
        CALLS.append("enters")
        return call_next()

    def process(self, job: Job) -> Any:
        assert self.thread == threading.get_ident()
        return DO["run"](job)

    def after_process(self, job: Job, result: Any) -> None:
        CALLS.append(f"after {result!r}")

    def on_error(self, job: Job, error: BaseException) -> None:
        CALLS.append(f"error {error}")
        raise RuntimeError("of the hook")


@job(hooks=[Log("given")])
async def plain_function(name: str) -> None:
    CALLS.append(name)


def claimed(job: Job) -> Run:
    job.id, job.attempt, job.state = 7, 1, JobState.EXECUTING
    return Run(job)


async def execute(job: Job, *hooks: object) -> Ack:
    executor = Executor(WorkerFinder(), PLACES, clean_hooks("hooks", hooks))
    return await executor.execute(claimed(job))


@pytest.mark.parametrize("kind", [Plain, OnAThread])
async def test_hooks_lie_around_each_other(kind: type[Worker]) -> None:
    ack = await execute(kind.new(), Log("first"), Log("second"))
    assert ack.state == "completed"
    names = ["first", "second", "given"]
    assert [
        *(f"{name} {what}" for name in names for what in ("before", "enters")),
        "process",
        *(f"{name} {what}" for name in reversed(names) for what in ("leaves", "after None")),
    ] == CALLS


async def test_what_the_job_raises_passes_all_of_them() -> None:
    def fail(job: Job) -> None:
        raise ValueError("no")

    DO["run"] = fail
    ack = await execute(Plain.new(), Log("outer"))
    assert ack.state == "retryable"
    assert "ValueError: no" in str(ack.error)
    assert CALLS[4:] == ["given leaves", "given error no", "outer leaves", "outer error no"]


async def test_a_function_worker_has_hooks_too() -> None:
    await execute(plain_function.new("called"))
    assert CALLS[2] == "called"


class Before(Hooks):
    def __init__(self, give: Callable[[], Any]) -> None:
        self.give = give

    def before_process(self, job: Job) -> Any:
        return self.give()


async def test_what_raises_before_fails_the_attempt_without_its_code() -> None:
    def fail() -> None:
        raise LookupError("no tenant")

    ack = await execute(Plain.new(), Log("outer"), Before(fail))
    assert ack.state == "retryable"
    assert "LookupError: no tenant" in str(ack.error)
    assert CALLS == ["outer before", "outer enters", "outer leaves", "outer error no tenant"]


@pytest.mark.parametrize(
    ("given", "state"),
    [
        (Cancel("no"), "cancelled"),
        (Snooze(5), "scheduled"),
        (Record(1), "completed"),
        (RateLimited(5), "scheduled"),
    ],
)
async def test_what_it_returns_before_may_end_the_attempt(given: object, state: str) -> None:
    ack = await execute(Plain.new(), Log("outer"), Before(lambda: given))
    assert ack.state == state
    assert ["outer before", "outer enters", "outer leaves", f"outer after {given!r}"] == CALLS


async def test_what_else_it_returns_before_means_nothing() -> None:
    await execute(Plain.new(), Before(lambda: "anything"))
    assert "process" in CALLS


class Late(Hooks):
    async def after_process(self, job: Job, result: Any) -> None:
        raise RuntimeError("after the work")

    async def on_error(self, job: Job, error: BaseException) -> None:
        raise RuntimeError("after the failure")


@pytest.fixture
def failures() -> Iterator[list[telemetry.Metadata]]:
    found: list[telemetry.Metadata] = []
    name = "oban.job.hook_failed"
    telemetry.attach("test", [name], lambda _, metadata: found.append(dict(metadata)))
    yield found
    telemetry.detach("test")


async def test_what_is_raised_after_the_work_changes_nothing(
    failures: list[telemetry.Metadata],
) -> None:
    assert (await execute(Plain.new(), Late())).state == "completed"
    assert "given after None" in CALLS

    def fail(job: Job) -> None:
        raise ValueError("no")

    DO["run"] = fail
    ack = await execute(Plain.new(), Late())
    assert "ValueError: no" in str(ack.error)
    assert "RuntimeError" not in str(ack.error)
    told = [(each["hook"], each["error_message"], each["job"].id) for each in failures]
    assert told == [("after_process", "after the work", 7), ("on_error", "after the failure", 7)]


class Interrupting(Hooks):
    def after_process(self, job: Job, result: Any) -> None:
        raise KeyboardInterrupt


async def test_a_hook_on_a_thread_that_raises_what_ctrl_c_does_has_failed(
    failures: list[telemetry.Metadata],
) -> None:
    assert (await execute(Plain.new(), Interrupting())).state == "completed"
    assert [each["error_type"] for each in failures] == ["KeyboardInterrupt"]


class Around(Hooks):
    def __init__(self, run: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]) -> None:
        self.run = run

    async def around(self, job: Job, call_next: Callable[[], Awaitable[Any]]) -> Any:
        return await self.run(call_next)


async def test_around_may_change_the_result_hold_back_the_code_or_fail() -> None:
    async def instead(call_next: Callable[[], Awaitable[Any]]) -> Any:
        return Record("instead")

    async def mend(call_next: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await call_next()
        except ValueError:
            return Cancel("mended")

    async def spoil(call_next: Callable[[], Awaitable[Any]]) -> Any:
        await call_next()
        raise OSError("commit failed")

    ack = await execute(Plain.new(), Around(instead))
    assert (ack.state, CALLS) == ("completed", [])
    assert ack.meta is not None
    ack = await execute(Plain.new(), Around(spoil))
    assert "OSError: commit failed" in str(ack.error)

    def fail(job: Job) -> None:
        raise ValueError("no")

    DO["run"] = fail
    assert (await execute(Plain.new(), Around(mend))).state == "cancelled"


@pytest.mark.parametrize("kind", [Plain, OnAThread])
async def test_code_sees_the_context_that_is_set_around_it(kind: type[Worker]) -> None:
    async def inside(call_next: Callable[[], Awaitable[Any]]) -> Any:
        SESSION.set("open")
        return await call_next()

    DO["run"] = lambda job: CALLS.append(SESSION.get())
    await execute(kind.new(), Around(inside))
    assert "open" in CALLS


async def test_a_hook_that_is_def_runs_on_a_thread() -> None:
    threads = []
    await execute(Plain.new(), Before(lambda: threads.append(threading.current_thread())))
    assert threads != [threading.main_thread()]


async def test_back_pressure_is_a_result_and_unwinds_what_is_around() -> None:
    async def rolled_back(call_next: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await call_next()
        except RateLimited:
            CALLS.append("rolled back")
            raise

    def ask(job: Job) -> None:
        raise RateLimited(3)

    DO["run"] = ask
    ack = await execute(Plain.new(), Log("outer"), Around(rolled_back))
    assert (ack.state, ack.delay) == ("scheduled", 3.0)
    assert "rolled back" in CALLS
    assert [call for call in CALLS if "error" in call] == []


async def test_a_job_that_is_stopped_has_not_failed() -> None:
    begun = asyncio.Event()

    async def wait(job: Job) -> None:
        begun.set()
        await asyncio.sleep(60)

    DO["run"] = wait
    run = claimed(Plain.new())
    executor = Executor(WorkerFinder(), PLACES, clean_hooks("hooks", [Log("outer")]))
    run.task = asyncio.create_task(executor.execute(run))
    await begun.wait()
    run.ask_to_stop(StopReason.CANCELLED)
    run.force()
    assert (await run.task).state == "cancelled"
    assert CALLS[4:] == ["given leaves", "outer leaves"]


async def test_hooks_of_a_worker_are_methods_of_the_instance_that_runs_the_job() -> None:
    ack = await execute(Own.new())
    assert ack.state == "completed"
    assert CALLS == ["after ['session', 'session'] session"]


async def test_hooks_of_a_worker_on_a_thread_run_there(
    failures: list[telemetry.Metadata],
) -> None:
    DO["run"] = lambda job: 5
    assert (await execute(OwnOnAThread.new())).state == "completed"
    assert CALLS == ["before False", "enters", "after 5"]
    CALLS.clear()
    assert (await execute(OwnOnAThread.new({"early": True}))).state == "cancelled"
    assert CALLS == ["before False", "after Cancel(reason='too early')"]
    CALLS.clear()

    def fail(job: Job) -> None:
        raise ValueError("no")

    DO["run"] = fail
    ack = await execute(OwnOnAThread.new())
    assert "ValueError: no" in str(ack.error)
    assert CALLS == ["before False", "enters", "error no"]
    assert [each["error_message"] for each in failures] == ["of the hook"]


# What is refused


class Wrong(Hooks):
    async def before_process(self) -> None:  # type: ignore[override]
        pass


class Blocking(Hooks):
    def around(self, job: Job, call_next: Any) -> Any:
        return call_next()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (5, "it is a list"),
        ("app:hook", "it is a list"),
        ([object()], "such as one of a subclass of oban.Hooks"),
        ([Hooks()], "one or more"),
        ([Log], r"give an object, Log\(\)"),
        ([Wrong()], r"takes \(job\); give it another name"),
        ([Blocking()], "around is `def`; it is `async def around"),
        (["nowhere"], "it is written module:object"),
        (["nowhere.at.all:hook"], "No module named 'nowhere'"),
        (["oban:nothing"], "has no attribute 'nothing'"),
    ],
)
def test_what_is_no_hook_is_refused(given: object, said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        clean_hooks("hooks", given)


def test_a_method_of_a_hooks_name_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"on_error cannot be called.*takes \(job, error\)"):

        @worker()
        class Mistaken(Worker):
            async def process(self, job: Job) -> None: ...
            def on_error(self) -> None: ...

    with pytest.raises(InvalidOption, match="make both the same"):

        @worker()
        class Mixed(Worker):
            def process(self, job: Job) -> None: ...
            async def before_process(self, job: Job) -> None: ...

    with pytest.raises(InvalidOption, match="around is `def` and its process is `async def`"):

        @worker()
        class Unawaited(Worker):
            async def process(self, job: Job) -> None: ...
            def around(self, job: Job, call_next: Any) -> Any: ...


def test_hooks_are_the_workers_to_say() -> None:
    with pytest.raises(TypeError, match=r"no option 'hooks' here.*give it to @worker or @job"):
        Plain.new(hooks=[Log("late")])  # type: ignore[call-arg]


@pytest.mark.parametrize("error", [StopIteration(), SystemExit(1), asyncio.CancelledError()])
async def test_whatever_a_hook_raises_its_job_ends(
    error: BaseException, failures: list[telemetry.Metadata]
) -> None:
    def fail() -> None:
        raise error

    class After(Hooks):
        def after_process(self, job: Job, result: Any) -> None:
            fail()

    assert (await execute(Plain.new(), After())).state == "completed"
    assert len(failures) == 1
    async with asyncio.timeout(5):
        assert (await execute(Plain.new(), Before(fail))).state == "retryable"


def test_a_worker_may_inherit_hooks_that_do_nothing() -> None:
    @worker()
    class Inheriting(Worker, Hooks):
        async def process(self, job: Job) -> None: ...
        async def before_process(self, job: Job) -> None: ...
