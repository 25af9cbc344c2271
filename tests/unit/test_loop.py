import asyncio
from itertools import pairwise
from typing import Any

import pytest

from oban.running.loop import Alarm, Loop

Event = tuple[str, dict[str, Any]]


class Counting(Loop):
    """Does what it is told to, one tick after the other, and then rests."""

    name = "oban.test"

    def __init__(self, *plan: float | Exception) -> None:
        super().__init__()
        self.plan = list(plan)
        self.done = asyncio.Event()
        self.ticked_at: list[float] = []

    async def tick(self) -> float:
        self.ticked_at.append(asyncio.get_running_loop().time())
        if not self.plan:
            self.done.set()
            return 3600.0
        match self.plan.pop(0):
            case Exception() as error:
                raise error
            case delay:
                return float(delay)


async def run_through(loop: Counting) -> list[float]:
    """Run until the plan is done; return the seconds between ticks."""
    task = asyncio.create_task(loop.run())
    await asyncio.wait_for(loop.done.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    times = loop.ticked_at
    return [later - earlier for earlier, later in pairwise(times)]


# The alarm


async def test_a_rest_ends_with_its_time() -> None:
    clock = asyncio.get_running_loop().time
    started = clock()
    await Alarm().rest(0.05)
    assert 0.045 <= clock() - started < 2


async def test_a_rest_without_an_end_waits_to_be_woken() -> None:
    alarm = Alarm()
    resting = asyncio.create_task(alarm.rest(None))
    done, _ = await asyncio.wait([resting], timeout=0.05)
    assert not done
    alarm.wake()
    await asyncio.wait_for(resting, 1)


async def test_a_wake_up_that_comes_early_is_kept_for_the_next_rest() -> None:
    alarm = Alarm()
    alarm.wake()
    await asyncio.wait_for(alarm.rest(None), 1)


async def test_many_wake_ups_end_one_rest() -> None:
    alarm = Alarm()
    for _ in range(5):
        alarm.wake()
    await alarm.rest(None)
    second = asyncio.create_task(alarm.rest(None))
    done, _ = await asyncio.wait([second], timeout=0.05)
    assert not done
    second.cancel()


async def test_a_rest_can_be_cancelled() -> None:
    resting = asyncio.create_task(Alarm().rest(3600))
    await asyncio.sleep(0)
    resting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await resting


# The loop


async def test_a_loop_rests_as_long_as_its_tick_says() -> None:
    first, second = await run_through(Counting(0.0, 0.1))
    assert first < 1
    assert 0.095 <= second < 2


async def test_a_loop_that_is_woken_does_not_rest() -> None:
    loop = Counting(3600.0)
    task = asyncio.create_task(run_through(loop))
    while not loop.ticked_at:
        await asyncio.sleep(0)
    loop.alarm.wake()
    (pause,) = await task
    assert pause < 60


async def test_a_tick_that_fails_is_an_event_and_a_backoff(events: list[Event]) -> None:
    pauses = await run_through(Counting(ValueError("one"), KeyError("two"), 0.0))
    assert [name for name, _ in events] == ["oban.test.outage"] * 2
    (_, first), (_, second) = events
    assert (first["failures"], first["error_type"], first["error_message"]) == (
        1,
        "ValueError",
        "one",
    )
    assert (second["failures"], second["error_type"]) == (2, "KeyError")
    assert pauses[0] >= first["delay"] - 0.005 >= 0.045
    assert pauses[1] >= second["delay"] - 0.005 >= 0.095


async def test_a_tick_that_works_ends_the_backoff(events: list[Event]) -> None:
    await run_through(Counting(ValueError(), ValueError(), 0.0, ValueError()))
    assert [metadata["failures"] for _, metadata in events] == [1, 2, 1]


async def test_a_loop_lives_through_any_number_of_failures(
    events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oban.running.loop.outage_backoff", lambda failures: 0.0)
    await run_through(Counting(*(OSError("away") for _ in range(2000))))
    assert len(events) == 2000


async def test_a_wake_up_cuts_a_backoff_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oban.running.loop.outage_backoff", lambda failures: 3600.0)
    loop = Counting(ValueError(), ValueError(), ValueError())
    task = asyncio.create_task(run_through(loop))
    while not task.done():
        loop.alarm.wake()
        await asyncio.sleep(0)
    assert sum(await task) < 60
