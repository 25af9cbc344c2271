"""Attempts are noted cheaply, gathered in bounded memory, and taken once."""

import threading
from datetime import UTC, datetime, timedelta

from tests.rows import restored

from oban import Job
from oban.engines.metrics import Times
from oban.metrics import REST
from oban.running.meter import MOST_NOTES, MOST_SKETCHES, Meter
from oban.sketch import bin_of

DUE = datetime(2030, 1, 1, tzinfo=UTC)


def claimed(worker: str = "w", waited: float = 0.5) -> Job:
    return restored(
        queue="q", worker=worker, scheduled_at=DUE, attempted_at=DUE + timedelta(seconds=waited)
    )


def counts(taken: list[Times]) -> dict[tuple[str, str], int]:
    return {(each.worker, each.state): sum(each.exec.values()) for each in taken}


def test_what_was_noted_is_taken_once() -> None:
    meter = Meter()
    for _ in range(3):
        meter.note(claimed(), "completed", 2_000_000)
    meter.note(claimed(waited=-1), "retryable", 0)
    completed, retryable = meter.take()
    assert completed == Times(
        "q", "w", "completed", {bin_of(2_000_000): 3}, {bin_of(500_000_000): 3}
    )
    assert retryable == Times("q", "w", "retryable", {0: 1}, {0: 1})
    assert meter.take() == []


def test_what_was_given_back_has_not_ended() -> None:
    meter = Meter()
    meter.note(claimed(), "available", 5)
    assert meter.take() == []


def test_what_could_not_be_told_is_taken_again() -> None:
    meter = Meter()
    meter.note(claimed(), "completed", 5)
    untold = meter.take()
    meter.note(claimed(), "completed", 5)
    meter.put_back(untold)
    assert counts(meter.take()) == {("w", "completed"): 2}


def test_memory_is_bounded_whatever_runs() -> None:
    meter = Meter()
    for n in range(20_000):
        meter.note(claimed(f"w{n % 2_000}", waited=n), "completed", n * 1_000_003)
        assert len(meter.notes) <= MOST_NOTES
    taken = meter.take()
    assert len(taken) == MOST_SKETCHES + 1
    assert sum(counts(taken).values()) == 20_000
    assert counts(taken)[REST, "completed"] == 20_000 - MOST_SKETCHES * 10


def test_nothing_is_lost_between_the_threads() -> None:
    meter, taken = Meter(), []
    done = threading.Event()

    def take() -> None:
        while not done.is_set():
            taken.extend(meter.take())

    thread = threading.Thread(target=take)
    thread.start()
    for _ in range(20_000):
        meter.note(claimed(), "completed", 5)
    done.set()
    thread.join()
    taken.extend(meter.take())
    assert sum(sum(each.exec.values()) for each in taken) == 20_000
