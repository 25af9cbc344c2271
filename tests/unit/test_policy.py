"""What becomes of a job by what it raised."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final

import pytest

from oban import Job, JobState, Worker, job, telemetry, worker
from oban.backoff import exponential, linear
from oban.errors import InvalidOption
from oban.lookup import WorkerFinder
from oban.outcome import Ack
from oban.running.executor import Executor
from oban.running.places import Places
from oban.running.run import Run, StopReason
from oban.running.threads import Threads

EXECUTOR: Final = Executor(WorkerFinder(), Places(Threads("test")))
RAISE: list[BaseException] = []


class Throttled(Exception):
    def __init__(self, after: float) -> None:
        super().__init__(f"after {after}")
        self.after = after


class Gone(LookupError): ...


class LongGone(Gone): ...


@worker(
    max_attempts=3,
    retry_on={ConnectionError: 5, (TimeoutError, BrokenPipeError): [1, timedelta(minutes=1)]},
    discard_on=[Gone],
    cancel_on=PermissionError,
    snooze_on={Throttled: lambda job, error: error.after},
)
class Ruled(Worker):
    def process(self, job: Job) -> None:
        raise RAISE[0]

    def backoff(self, job: Job) -> float:
        return 77


async def run(error: BaseException, *, attempt: int = 1, kind: Any = Ruled) -> Ack:
    RAISE[:] = [error]
    job: Job = kind.new()
    job.id, job.attempt, job.state = 7, attempt, JobState.EXECUTING
    return await EXECUTOR.execute(Run(job))


@pytest.mark.parametrize(
    ("error", "attempt", "state", "delay", "counted"),
    [
        (ConnectionError(), 1, "retryable", 5, True),
        (ConnectionResetError(), 1, "retryable", 5, True),
        (BrokenPipeError(), 1, "retryable", 1, True),
        (TimeoutError(), 2, "retryable", 60, True),
        (ConnectionError(), 3, "discarded", None, True),
        (ValueError(), 1, "retryable", 77, True),
        (LookupError(), 1, "retryable", 77, True),
        (Gone(), 1, "discarded", None, True),
        (LongGone(), 1, "discarded", None, True),
        (PermissionError(), 1, "cancelled", None, True),
        (PermissionError(), 3, "cancelled", None, True),
        (Throttled(9), 3, "scheduled", 9, False),
    ],
)
async def test_the_nearest_class_that_is_named_decides(
    error: BaseException, attempt: int, state: str, delay: float | None, counted: bool
) -> None:
    ack = await run(error, attempt=attempt)
    assert (ack.state, ack.delay, ack.counted) == (state, delay, counted)
    assert type(error).__name__ in str(ack.error)


async def test_a_snooze_is_counted_as_one() -> None:
    assert (await run(Throttled(1))).meta == {"snoozed": 1}


async def test_a_job_that_is_snoozed_without_end_keeps_a_bounded_number_of_errors() -> None:
    RAISE[:] = [Throttled(1)]
    kept = []
    for snoozed in (19, 20):
        job = Ruled.new(meta={"snoozed": snoozed})
        job.id, job.attempt, job.state = 7, 1, JobState.EXECUTING
        kept.append((await EXECUTOR.execute(Run(job))).error is not None)
    assert kept == [True, False]


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    found: list[str] = []
    names = ["oban.job.bad_backoff"]
    telemetry.attach("test", names, lambda _, told: found.append(told["error_message"]))
    yield found
    telemetry.detach("test")


def broken(job: Job, error: BaseException) -> Any:
    raise KeyError("delays")


async def later(job: Job, error: BaseException) -> float:
    return 1.0


@pytest.mark.parametrize(
    ("delay", "said"),
    [
        (broken, "'delays'"),
        (lambda job, error: -1, "ValueError is -1; it is 0 or more seconds"),
        (lambda job, error: "soon", "ValueError is 'soon'"),
        (lambda job, error: later(job, error), "to be awaited"),
    ],
)
async def test_a_delay_that_cannot_be_used_is_told_and_replaced(
    complaints: list[str], delay: Callable[..., Any], said: str
) -> None:
    @worker(snooze_on={ValueError: delay})
    class Careless(Worker):
        def process(self, job: Job) -> None:
            raise ValueError

    ack = await run(ValueError(), kind=Careless)
    assert ack.state == "scheduled"
    assert 17 <= (ack.delay or 0) <= 18.7
    assert said in complaints[0]


async def test_a_function_has_a_policy_too() -> None:
    @job(discard_on=ZeroDivisionError)
    def divide() -> float:
        return 1 / 0

    assert (await run(ValueError(), kind=divide)).state == "discarded"


async def test_a_job_that_is_stopped_is_not_judged() -> None:
    job = Ruled.new()
    job.id, job.attempt, job.state = 7, 1, JobState.EXECUTING
    RAISE[:] = [Gone()]
    run = Run(job)
    run.ask_to_stop(StopReason.SHUTDOWN)
    assert (await EXECUTOR.execute(run)).state == "available"


def at(attempt: int) -> Job:
    return Job(worker="w", attempt=attempt, max_attempts=20)


def test_choices_of_backoff() -> None:
    for choice, expected in [
        (linear(10, most=25), [10, 20, 25, 25]),
        (exponential(1, factor=3, most=20), [1, 3, 9, 20]),
        (exponential(timedelta(minutes=1)), [60, 120, 240, 480]),
    ]:
        for attempt, least in enumerate(expected, 1):
            assert least <= choice(at(attempt), ValueError()) <= least * 1.1
    assert exponential(most=100)(at(20), ValueError()) <= 110
    assert exponential(factor=1e300, most=100)(at(20), ValueError()) <= 110


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"discard_on": "ValueError"}, "holds 'ValueError'; it is an exception class"),
        ({"discard_on": ValueError()}, "it is an exception class"),
        ({"cancel_on": [KeyboardInterrupt]}, "derived from Exception"),
        ({"discard_on": {ValueError: 1}}, "is a dict; it is an exception class"),
        ({"snooze_on": ValueError}, "it is a dict of exception classes and delays"),
        ({"snooze_on": {ValueError: -1}}, "is -1; it is 0 or more seconds"),
        ({"retry_on": {ValueError: []}}, "it is 0 or more seconds, a timedelta, a list"),
        ({"retry_on": {ValueError: [1, "2"]}}, "'2'"),
        ({"retry_on": {ValueError: later}}, "function of the job and the exception"),
        ({"retry_on": OSError, "discard_on": (KeyError, OSError)}, "to retry and to discard"),
        ({"retry_on": {(OSError, OSError): 1}}, "stands twice"),
    ],
)
def test_what_is_no_policy_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption, match=said):

        @worker(**options)
        class Refused(Worker):
            def process(self, job: Job) -> None: ...


def test_it_is_the_workers_to_say() -> None:
    with pytest.raises(TypeError, match="no option 'discard_on' here"):
        Ruled.new(discard_on=ValueError)  # type: ignore[call-arg]
