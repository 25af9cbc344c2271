"""Whatever a worker does becomes an Ack. Nothing here needs a database."""

import asyncio
import contextvars
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oban import Cancel, Discard, Job, JobState, Record, Snooze, Worker, recorded, worker
from oban.backoff import default_backoff
from oban.errors import UnknownWorker
from oban.lookup import WorkerFinder
from oban.outcome import Ack
from oban.running import executor as module
from oban.running.executor import Executor
from oban.running.places import Places
from oban.running.run import Run, StopReason
from oban.running.threads import Threads
from oban.text import MAX_BYTES

Event = tuple[str, dict[str, Any]]
EXECUTOR: Final = Executor(WorkerFinder(), Places(Threads("test")))
#: What the workers of this module do, and what they answer when asked how long to wait.
DO: dict[str, Callable[[Job], Any]] = {}


@pytest.fixture(autouse=True)
def fresh() -> None:
    DO.clear()
    DO["backoff"] = lambda job: 30


@worker()
class OnTheLoop(Worker):
    async def process(self, job: Job) -> Any:
        returned = DO["run"](job)
        return await returned if asyncio.iscoroutine(returned) else returned


@worker()
class OnAThread(Worker):
    def process(self, job: Job) -> Any:
        return DO["run"](job)


@worker()
class WithBackoff(Worker):
    async def process(self, job: Job) -> Any:
        raise ValueError("no")

    def backoff(self, job: Job) -> Any:
        return DO["backoff"](job)


KINDS: Final[dict[str, Any]] = {"loop": OnTheLoop, "thread": OnAThread}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]


def claimed(kind: Any, *, attempt: int = 1, **options: Any) -> Job:
    job: Job = kind.new({"a": 1}, **options)
    job.id, job.attempt, job.state = 7, attempt, JobState.EXECUTING
    return job


async def execute(kind: Any, run: Callable[[Job], Any], **options: Any) -> Ack:
    DO["run"] = run
    return await EXECUTOR.execute(Run(claimed(kind, **options)))


def raising(error: BaseException) -> Callable[[Job], Any]:
    def run(job: Job) -> None:
        raise error

    return run


# What is returned


@pytest.mark.parametrize(
    "value",
    [None, False, 0, "text", object(), Record, Snooze, ValueError("returned"), b"\xff"],
    ids=lambda value: str(type(value).__name__),
)
async def test_anything_that_is_no_outcome_completes(kind: Any, value: Any) -> None:
    assert await execute(kind, lambda job: value) == Ack(7, 1, JobState.COMPLETED)


async def test_a_record_completes_and_is_kept(kind: Any) -> None:
    ack = await execute(kind, lambda job: Record([1, None]))
    assert ack.state is JobState.COMPLETED
    assert ack.meta is not None
    assert ack.meta["recorded"] is True
    assert recorded.decode(ack.meta["return"]) == [1, None]


@pytest.mark.parametrize("given", [5, 0.5, timedelta(minutes=1)])
async def test_a_snooze_is_scheduled_and_not_counted(kind: Any, given: Any) -> None:
    ack = await execute(kind, lambda job: Snooze(given, meta={"why": "busy"}))
    delay = given.total_seconds() if isinstance(given, timedelta) else given
    meta = {"why": "busy", "snoozed": 1}
    assert ack == Ack(7, 1, JobState.SCHEDULED, delay=delay, meta=meta, counted=False)


@pytest.mark.parametrize(("before", "after"), [(3, 4), ("x", 1), (-5, 1), (True, 1), (None, 1)])
async def test_snoozes_are_counted_whatever_stood_there(before: Any, after: int) -> None:
    ack = await execute(OnTheLoop, lambda job: Snooze(5), meta={"snoozed": before})
    assert ack.meta == {"snoozed": after}


@pytest.mark.parametrize(
    ("reason", "kept"),
    [("not wanted", "not wanted"), (None, "no reason given"), ({"code": 7}, "{'code': 7}")],
)
@pytest.mark.parametrize("outcome", [Cancel, Discard])
async def test_cancel_and_discard_keep_their_reason(
    kind: Any, outcome: Any, reason: Any, kept: str
) -> None:
    ack = await execute(kind, lambda job: outcome(reason))
    state = JobState.CANCELLED if outcome is Cancel else JobState.DISCARDED
    assert ack == Ack(7, 1, state, error=kept)


async def test_a_reason_is_cleaned_and_cut() -> None:
    ack = await execute(OnTheLoop, lambda job: Cancel("a\0" + "b" * 10**6))
    assert ack.error is not None
    assert ack.error.startswith("a\ufffdb")
    assert len(ack.error.encode()) <= MAX_BYTES


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


async def test_a_reason_that_cannot_be_told_is_a_failure_like_any_other(kind: Any) -> None:
    ack = await execute(kind, lambda job: Cancel(Unspeakable()))
    assert ack.state is JobState.RETRYABLE
    assert ack.error is not None
    assert "no words" in ack.error


async def test_a_def_worker_may_return_what_is_awaited_on_the_loop() -> None:
    async def answer() -> Any:
        return Discard(threading.current_thread() is threading.main_thread())

    ack = await execute(OnAThread, lambda job: answer())
    assert ack == Ack(7, 1, JobState.DISCARDED, error="True")


# What is raised


class Below(BaseException):
    """Not an Exception: some libraries end what they run by such."""


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("broken")


class BrokenTwice(Exception):
    @property
    def __notes__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("broken")


class Interrupting(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


ERRORS = [
    ValueError("no"),
    SystemExit(3),
    GeneratorExit(),
    StopIteration(1),
    StopAsyncIteration(),
    asyncio.CancelledError("by itself"),
    ExceptionGroup("several", [ValueError("one"), ValueError("two")]),
    BaseExceptionGroup("worse", [Below()]),
    Below("below"),
    Broken(),
    BrokenTwice(),
    Interrupting(),
    UnknownWorker("another one"),
    RecursionError("deep"),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_whatever_is_raised_is_retried_later(
    kind: Any, error: BaseException, events: list[Event]
) -> None:
    ack = await execute(kind, raising(error))
    assert ack.state is JobState.RETRYABLE
    assert ack.counted
    assert ack.delay is not None
    assert 17 <= ack.delay <= 17 * 1.1
    assert ack.error is not None
    assert type(error).__name__ in ack.error or "StopIteration" in ack.error
    assert [name for name, _ in events] == ["oban.job.start", "oban.job.exception"]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_whatever_is_raised_at_the_last_attempt_discards(
    kind: Any, error: BaseException
) -> None:
    ack = await execute(kind, raising(error), attempt=3, max_attempts=3)
    assert (ack.attempt, ack.state, ack.delay) == (3, JobState.DISCARDED, None)


async def test_a_thread_that_raises_what_ctrl_c_does_has_failed() -> None:
    ack = await execute(OnAThread, raising(KeyboardInterrupt()))
    assert ack.state is JobState.RETRYABLE


@pytest.fixture
def handled() -> Iterator[None]:
    """The program answers Ctrl-C itself, as `oban start` and web servers do."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("handled")
async def test_an_interrupt_that_no_ctrl_c_can_have_caused_is_a_failure() -> None:
    ack = await execute(OnTheLoop, raising(KeyboardInterrupt()))
    assert ack.state is JobState.RETRYABLE
    assert ack.error is not None
    assert "KeyboardInterrupt" in ack.error


def test_ctrl_c_ends_the_program_although_a_job_runs() -> None:
    def press(job: Job) -> None:
        signal.raise_signal(signal.SIGINT)

    with closing(asyncio.new_event_loop()) as loop, pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(execute(OnTheLoop, press))


def test_a_second_ctrl_c_ends_a_program_run_by_asyncio() -> None:
    def press_twice(job: Job) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(execute(OnTheLoop, press_twice))


async def test_the_whole_traceback_is_kept(kind: Any) -> None:
    ack = await execute(kind, raising(ValueError("no\0pe")))
    assert ack.error is not None
    assert ack.error.startswith("Traceback (most recent call last):")
    assert "test_executor.py" in ack.error
    assert ack.error.rstrip().endswith("ValueError: no\ufffdpe")


async def test_a_huge_error_is_cut(kind: Any) -> None:
    ack = await execute(kind, raising(ValueError("x" * 10**6)))
    assert ack.error is not None
    assert len(ack.error.encode()) <= MAX_BYTES


# How long it waits


@pytest.mark.parametrize("given", [0, 30, 2.5, timedelta(minutes=5)])
async def test_a_worker_says_how_long_to_wait(given: Any) -> None:
    DO["backoff"] = lambda job: given
    ack = await execute(WithBackoff, lambda job: None)
    assert ack.delay == (given.total_seconds() if isinstance(given, timedelta) else given)


async def test_a_worker_may_find_out_how_long_to_wait() -> None:
    async def ask(job: Job) -> float:
        await asyncio.sleep(0)
        return job.attempt * 10.0

    DO["backoff"] = ask
    assert (await execute(WithBackoff, lambda job: None, attempt=4)).delay == 40.0


BAD: dict[str, Callable[[Job], Any]] = {
    "negative": lambda job: -1,
    "nothing": lambda job: None,
    "text": lambda job: "30",
    "true": lambda job: True,
    "not a number": lambda job: float("nan"),
    "for ever": lambda job: float("inf"),
    "a thousand years": lambda job: timedelta(days=365_250),
    "raises": raising(ValueError("no idea")),
    "exits": raising(SystemExit(1)),
    "raises what is no exception": raising(Below()),
    "cancels": raising(asyncio.CancelledError()),
    "takes its time": lambda job: asyncio.sleep(60),
}


@pytest.mark.parametrize("bad", BAD)
async def test_the_default_stands_in_for_an_answer_of_no_use(
    bad: str, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKOFF_PATIENCE", 0.01)
    DO["backoff"] = BAD[bad]
    ack = await execute(WithBackoff, lambda job: None, attempt=2)
    assert ack.state is JobState.RETRYABLE
    assert ack.delay is not None
    assert 19 <= ack.delay <= 19 * 1.1
    (told,) = [metadata for name, metadata in events if name == "oban.job.bad_backoff"]
    assert (told["job"].id, told["delay"]) == (7, ack.delay)


@given(attempt=st.integers(1, 20))
def test_without_a_word_the_default_is_taken(attempt: int) -> None:
    most = default_backoff(attempt, 20) * 1.11
    ack = asyncio.run(execute(OnTheLoop, raising(ValueError()), attempt=attempt, max_attempts=20))
    assert ack.delay is None if attempt == 20 else 15 < (ack.delay or 0) < most


# Workers nobody knows, and rows nobody can read


async def test_a_worker_nobody_knows_goes_back_uncounted(events: list[Event]) -> None:
    job = Job(worker="no.such.Worker", id=7, attempt=1, meta={"unknown_worker": 2, "kept": 1})
    ack = await EXECUTOR.execute(Run(job))
    assert (ack.state, ack.counted, ack.meta) == (JobState.SCHEDULED, False, {"unknown_worker": 3})
    assert ack.error is not None
    assert "no.such.Worker" in ack.error
    assert ack.delay is not None
    assert 23 <= ack.delay <= 23 * 1.1


async def test_after_twenty_tries_it_is_given_up() -> None:
    job = Job(worker="no.such.Worker", id=7, attempt=1, meta={"unknown_worker": 19})
    ack = await EXECUTOR.execute(Run(job))
    assert (ack.state, ack.delay, ack.counted) == (JobState.DISCARDED, None, False)


async def test_a_row_that_cannot_be_read_fails_without_running() -> None:
    ran: list[Job] = []
    DO["run"] = ran.append
    job = claimed(OnTheLoop)
    job.extra["unreadable"] = "args is [1], which is not an object"
    ack = await EXECUTOR.execute(Run(job))
    assert (ack.state, ran) == (JobState.RETRYABLE, [])
    assert ack.error is not None
    assert "args is [1]" in ack.error


# Being stopped


async def started(kind: Any, run: Callable[[Job], Any]) -> tuple[Run, "asyncio.Task[Ack]"]:
    """A run whose code has begun."""
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def begin(job: Job) -> Any:
        loop.call_soon_threadsafe(begun.set)
        return run(job)

    DO["run"] = begin
    attempt = Run(claimed(kind))
    attempt.task = asyncio.create_task(EXECUTOR.execute(attempt))
    await begun.wait()
    return attempt, attempt.task


@pytest.mark.parametrize(
    ("reason", "state", "counted"),
    [
        (StopReason.CANCELLED, JobState.CANCELLED, True),
        (StopReason.SHUTDOWN, JobState.AVAILABLE, False),
    ],
)
async def test_code_that_is_forced_to_stop_ends_as_it_was_asked(
    reason: StopReason, state: JobState, counted: bool, events: list[Event]
) -> None:
    run, task = await started(OnTheLoop, lambda job: asyncio.sleep(60))
    run.ask_to_stop(reason)
    assert run.force()
    ack = await task
    assert (ack.state, ack.counted, ack.delay) == (state, counted, None)
    assert (ack.error is None) is (reason is StopReason.SHUTDOWN)
    assert [name for name, _ in events] == ["oban.job.start", "oban.job.stop"]


async def test_code_that_looks_may_end_as_it_likes(kind: Any) -> None:
    proceed = threading.Event()

    def look(job: Job) -> Any:
        assert proceed.wait(10)
        return Record("in time") if job.cancelled() else None

    if kind is OnAThread:
        run, task = await started(kind, look)
    else:
        run, task = await started(kind, lambda job: asyncio.to_thread(look, job))
    run.ask_to_stop(StopReason.SHUTDOWN)
    proceed.set()
    ack = await task
    assert ack.state is JobState.COMPLETED
    assert ack.meta is not None


async def test_a_thread_cannot_be_forced() -> None:
    proceed = threading.Event()
    run, task = await started(OnAThread, lambda job: proceed.wait(10))
    run.ask_to_stop(StopReason.SHUTDOWN)
    assert run.force() is False
    proceed.set()
    assert (await task).state is JobState.COMPLETED


async def test_an_error_while_it_is_stopped_is_that_of_the_stop(kind: Any) -> None:
    proceed = threading.Event()

    def fail(job: Job) -> None:
        assert proceed.wait(10)
        raise ConnectionError("closed under me")

    runs = {OnAThread: fail, OnTheLoop: lambda job: asyncio.to_thread(fail, job)}
    run, task = await started(kind, runs[kind])
    run.ask_to_stop(StopReason.SHUTDOWN)
    proceed.set()
    assert await task == Ack(7, 1, JobState.AVAILABLE, counted=False)


async def test_a_cancellation_from_outside_is_no_outcome() -> None:
    """The program ends: whoever cancels the task wants it to end, and no Ack."""
    _, task = await started(OnTheLoop, lambda job: asyncio.sleep(60))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# Where it runs, and what is told of it


CALLER: contextvars.ContextVar[str] = contextvars.ContextVar("CALLER")


async def test_a_job_sees_the_context_variables_of_its_task(kind: Any) -> None:
    CALLER.set("the test")
    ack = await execute(kind, lambda job: Cancel(CALLER.get()))
    assert ack.error == "the test"


async def test_a_def_worker_runs_on_a_thread_and_an_async_one_does_not() -> None:
    def where(job: Job) -> Cancel:
        return Cancel(threading.current_thread().name)

    assert (await execute(OnAThread, where)).error == "test"
    assert (await execute(OnTheLoop, where)).error == threading.current_thread().name


async def test_the_events_tell_of_state_duration_and_wait(events: list[Event]) -> None:
    DO["run"] = lambda job: asyncio.sleep(0.02)
    job = claimed(OnTheLoop)
    job.attempted_at = datetime.now(UTC)
    job.scheduled_at = job.attempted_at - timedelta(milliseconds=250)
    await EXECUTOR.execute(Run(job))
    (start, started), (stop, ended) = events
    assert (start, stop) == ("oban.job.start", "oban.job.stop")
    assert started["job"] is ended["job"] is job
    assert (ended["state"], ended["queue_time"]) == (JobState.COMPLETED, 250_000_000)
    assert 20_000_000 <= ended["duration"] == ended["monotonic_time"] - started["monotonic_time"]
