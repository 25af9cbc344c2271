"""The options that say where a job runs, for how long, and until when it may begin."""

import builtins
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from oban import Job, Worker, job, worker
from oban.errors import InvalidJob, InvalidOption
from oban.running.children import ChildProcess
from oban.worker import forget, registered


@worker(timeout=timedelta(seconds=90), deadline=60, executor="thread")
class Slow(Worker):
    def process(self, job: Job) -> None: ...


@worker
class Plain(Worker):
    async def process(self, job: Job) -> None: ...


def sync() -> None: ...


async def asynchronous() -> None: ...


loose_worker: Any = worker
loose_job: Any = job


def definition(of: Any) -> Any:
    return registered()[f"{of.__module__}.{of.__qualname__}"]


def test_by_default_the_function_says_where_it_runs() -> None:
    assert definition(Plain).executor == "async"
    assert definition(job(sync)).executor == "thread"
    for function in (sync, asynchronous):
        assert definition(job(executor="process")(function)).executor == "process"
        forget(f"{__name__}.{function.__name__}")


@pytest.mark.parametrize(
    ("executor", "function", "words"),
    [
        ("async", sync, "cannot run its `def`; possible are 'thread' and 'process'"),
        ("thread", asynchronous, "cannot run its `async def`; possible are 'async' and 'process'"),
        ("proces", sync, "is 'proces'; for its `def` it is 'thread' or 'process'"),
        (5, asynchronous, "is 5; for its `async def` it is 'async' or 'process'"),
    ],
)
def test_a_place_where_it_cannot_run_is_refused(executor: Any, function: Any, words: str) -> None:
    before = dict(registered())
    made = type("Made", (), {"__module__": __name__, "process": staticmethod(function)})
    attempts: list[Callable[[], object]] = [
        lambda: loose_job(executor=executor)(function),
        lambda: loose_worker(executor=executor)(made),
    ]
    for attempt in attempts:
        with pytest.raises(InvalidOption, match=words):
            attempt()
    assert dict(registered()) == before


def test_where_code_runs_is_not_for_a_job_to_say() -> None:
    given: dict[str, Any] = {"executor": "process"}
    attempts: list[Callable[[], object]] = [
        lambda: Plain.new({}, **given),
        lambda: Plain.options(**given),
    ]
    for attempt in attempts:
        with pytest.raises(TypeError, match="give it to @worker or @job"):
            attempt()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout": 0}, "timeout is 0 seconds; it is more than 0"),
        ({"timeout": -1.5}, "timeout is -1.5 seconds"),
        ({"timeout": "soon"}, "timeout is 'soon'; it is a number of seconds or a timedelta"),
        ({"timeout": True}, "timeout is True"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"deadline": 0}, "deadline is 0 seconds; it is more than 0, or an aware datetime"),
        ({"deadline": "soon"}, "deadline is 'soon'"),
        ({"deadline": datetime(2030, 1, 1)}, "names no time zone"),
        (
            {"deadline": 10**9, "scheduled_at": datetime(9999, 1, 1, tzinfo=UTC)},
            "beyond all time",
        ),
    ],
)
def test_a_wrong_value_is_found_at_once(options: dict[str, Any], words: str) -> None:
    attempts: list[Callable[[], object]] = [
        lambda: loose_job(**options)(sync),
        lambda: Plain.new({}, **options),
        lambda: Plain.options(**options),
    ]
    for attempt in attempts:
        with pytest.raises(InvalidJob, match=words):
            attempt()


def test_the_timeout_of_a_worker_is_its_own_and_that_of_a_job_stands_in_its_meta() -> None:
    assert definition(Slow).timeout == 90
    assert "timeout" not in Slow.new().meta
    assert Slow.new(timeout=5).meta["timeout"] == 5
    assert Slow.options(timeout=timedelta(minutes=1)).new().meta["timeout"] == 60
    assert "timeout" not in Slow.options(timeout=None).new(timeout=None).meta


def test_two_jobs_that_differ_in_their_deadlines_are_alike() -> None:
    unique: Any = {"fields": ["meta", "worker"]}
    first, second = (
        Plain.new(meta={"a": 1}, deadline=seconds, timeout=seconds, unique=unique)
        for seconds in (60, 90)
    )
    assert first.meta != second.meta
    assert first.unique is not None
    assert second.unique is not None
    assert first.unique.key(first) == second.unique.key(second)  # type: ignore[union-attr]


def test_the_meta_of_a_caller_is_not_changed() -> None:
    meta = {"a": 1}
    assert Plain.new(meta=meta, deadline=60).meta != meta
    assert meta == {"a": 1}


async def test_without_pebble_an_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pebble":
            raise ImportError(name)
        return original(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "pebble", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    setup: Any = None
    with pytest.raises(ImportError, match=r'pip install "oban\[process\]"'):
        ChildProcess().open_pool(setup)
