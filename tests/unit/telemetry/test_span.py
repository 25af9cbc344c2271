import asyncio
import time
import tracemalloc

import pytest

from oban import telemetry
from oban.telemetry import events

from .conftest import Hear

NAMES = ["oban.stager.stage.start", "oban.stager.stage.stop", "oban.stager.stage.exception"]


def test_work_that_succeeds_is_told_by_start_and_stop(hear: Hear) -> None:
    heard = hear(*NAMES)
    before = time.time_ns()

    with telemetry.span("oban.stager.stage", {"queue": "default"}) as span:
        assert [name for name, _ in heard] == NAMES[:1]
        span.add({"staged_count": 3})

    (_, start), (name, stop) = heard
    assert start.keys() == {"queue", "system_time"}
    assert before <= start["system_time"] <= time.time_ns()
    assert name == "oban.stager.stage.stop"
    assert stop.keys() == {"queue", "staged_count", "system_time", "duration"}
    assert (stop["staged_count"], stop["system_time"]) == (3, start["system_time"])


def test_duration_is_in_nanoseconds(hear: Hear) -> None:
    heard = hear(NAMES[1])
    began = time.monotonic_ns()

    with telemetry.span("oban.stager.stage"):
        time.sleep(0.005)

    assert 5_000_000 <= heard[0][1]["duration"] <= time.monotonic_ns() - began


def test_what_is_added_later_wins_and_the_callers_dict_is_left_alone(hear: Hear) -> None:
    heard = hear(NAMES[1])
    metadata = {"count": 0}

    with telemetry.span("oban.stager.stage", metadata) as span:
        span.add({"count": 1})
        span.add({"count": 2})

    assert heard[0][1]["count"] == 2
    assert metadata == {"count": 0}


def test_an_error_is_told_and_raised_again(hear: Hear) -> None:
    heard = hear(*NAMES)
    error = ValueError("no such queue")

    with pytest.raises(ValueError) as caught, telemetry.span("oban.stager.stage") as span:
        span.add({"staged_count": 1})
        raise error

    assert caught.value is error
    _, told = heard[-1]
    assert [name for name, _ in heard] == [NAMES[0], NAMES[2]]
    assert (told["error_message"], told["error_type"]) == ("no such queue", "ValueError")
    assert "raise error" in told["traceback"]
    assert told["staged_count"] == 1
    assert told["duration"] >= 0
    assert told["system_time"] == heard[0][1]["system_time"]


async def test_a_span_around_awaits_tells_a_cancellation_and_lets_it_pass(hear: Hear) -> None:
    heard = hear(*NAMES)
    inside = asyncio.Event()

    async def work() -> None:
        with telemetry.span("oban.stager.stage"):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert [name for name, _ in heard] == [NAMES[0], NAMES[2]]
    assert heard[-1][1]["error_type"] == "CancelledError"


async def test_spans_of_tasks_that_take_turns_do_not_mix(hear: Hear) -> None:
    heard = hear("oban.producer.ack.stop")

    async def work(queue: str) -> None:
        with telemetry.span("oban.producer.ack", {"queue": queue}) as span:
            await asyncio.sleep(0)
            span.add({"count": len(queue)})
            await asyncio.sleep(0)

    await asyncio.gather(work("a"), work("bb"), work("ccc"))

    counts = {told["queue"]: told["count"] for _, told in heard}
    assert counts == {"a": 1, "bb": 2, "ccc": 3}


@pytest.mark.parametrize("name", NAMES)
def test_a_listener_of_one_event_alone_is_enough(name: str, hear: Hear) -> None:
    heard = hear(name)

    with telemetry.span("oban.stager.stage"):
        pass
    with pytest.raises(KeyError), telemetry.span("oban.stager.stage"):
        raise KeyError

    assert {heard_name for heard_name, _ in heard} == {name}


def test_unheard_it_reads_no_clock_makes_nothing_and_calls_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> int:
        raise AssertionError("called for a span nobody hears")

    for module, name in ((time, "time_ns"), (time, "monotonic_ns")):
        monkeypatch.setattr(module, name, fail)
    monkeypatch.setattr(events, "execute", fail)
    monkeypatch.setattr(events, "describe_error", fail)

    first, second = telemetry.span("a.b"), telemetry.span("oban.stager.stage", {"x": 1})
    with first as span:
        span.add({"staged_count": 1})
    with pytest.raises(KeyError), second:
        raise KeyError

    assert first is second


def test_unheard_it_keeps_no_memory() -> None:
    def spans(count: int) -> None:
        for _ in range(count):
            with telemetry.span("oban.stager.stage") as span:
                span.add({"staged_count": 1})

    spans(10)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        spans(1000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert after - before < 1000


def test_a_listener_who_comes_in_the_middle_hears_no_stop_without_a_start(hear: Hear) -> None:
    with telemetry.span("oban.stager.stage"):
        heard = hear(*NAMES)

    assert heard == []
