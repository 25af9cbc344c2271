import asyncio
import contextvars
import gc
import threading
import time
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from oban.running import threads as module
from oban.running.threads import Threads

NAMES = iter(range(10**6))


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Threads]:
    """Threads of the test's own, that end soon after they have nothing to do."""
    monkeypatch.setattr(module, "IDLE", 0.2)
    made = Threads(f"test-{next(NAMES)}")
    yield made
    deadline = time.monotonic() + 10
    while living(made):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def living(threads: Threads) -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == threads.name]


async def test_a_value_comes_back(threads: Threads) -> None:
    returned = await threads.submit(lambda: threading.current_thread().name)
    assert (returned.value, returned.error) == (threads.name, None)


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), StopIteration(1), SystemExit(2), KeyboardInterrupt(), GeneratorExit(),
     asyncio.CancelledError()],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
async def test_any_exception_comes_back_as_a_value(threads: Threads, error: BaseException) -> None:
    def fail() -> None:
        raise error

    returned = await threads.submit(fail)
    assert returned.error is error
    assert (await threads.submit(lambda: 5)).value == 5


async def test_the_callers_context_is_seen_and_not_changed(threads: Threads) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("the caller's")

    def read() -> str:
        seen = variable.get()
        variable.set("the thread's")
        return seen

    assert (await threads.submit(read)).value == "the caller's"
    assert variable.get() == "the caller's"
    variable.set("another")
    assert (await threads.submit(read)).value == "another"


async def test_one_after_the_other_runs_on_one_thread(threads: Threads) -> None:
    seen = {(await threads.submit(threading.get_ident)).value for _ in range(50)}
    assert len(seen) == 1


async def test_many_run_at_once(threads: Threads) -> None:
    barrier = threading.Barrier(20, timeout=10)
    returned = await asyncio.gather(*(threads.submit(barrier.wait) for _ in range(20)))
    assert sorted(each.value for each in returned) == list(range(20))
    assert len(living(threads)) == 20


async def test_threads_are_reused_before_new_ones_start(threads: Threads) -> None:
    async def meet(number: int) -> None:
        barrier = threading.Barrier(number, timeout=10)
        await asyncio.gather(*(threads.submit(barrier.wait) for _ in range(number)))

    for number in (8, 5, 8, 1):
        await meet(number)
    assert len(living(threads)) <= 8


async def test_the_threads_do_not_hold_the_exit(threads: Threads) -> None:
    await threads.submit(lambda: None)
    assert all(each.daemon for each in living(threads))


async def test_idle_threads_end_and_new_ones_start(threads: Threads) -> None:
    await threads.submit(lambda: None)
    deadline = time.monotonic() + 10
    while living(threads):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    assert (await threads.submit(lambda: 5)).value == 5


async def test_work_that_comes_just_when_a_thread_ends_is_done(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE", 0.001)
    for n in range(300):
        returned = await asyncio.wait_for(threads.submit(partial(abs, n)), 10)
        assert returned.value == n
        await asyncio.sleep(0.001)


async def test_a_caller_that_gives_up_leaves_the_thread_in_order(threads: Threads) -> None:
    proceed = threading.Event()
    waiting = asyncio.ensure_future(threads.submit(lambda: proceed.wait(10)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    proceed.set()
    assert (await threads.submit(lambda: 5)).value == 5


def test_a_loop_that_was_closed_meanwhile_is_no_error(threads: Threads) -> None:
    proceed, ended = threading.Event(), threading.Event()

    def work() -> None:
        proceed.wait(10)
        ended.set()

    async def abandon() -> None:
        threads.submit(work)

    asyncio.run(abandon())
    proceed.set()
    assert ended.wait(10)
    assert asyncio.run(answer(threads)) == 5


async def answer(threads: Threads) -> Any:
    return (await threads.submit(lambda: 5)).value


async def test_an_idle_thread_keeps_nothing_of_its_last_work_alive(threads: Threads) -> None:
    class Big:
        pass

    kept = Big()
    gone = weakref.ref(kept)
    await threads.submit(partial(id, kept))
    del kept
    deadline = time.monotonic() + 5
    while gone() is not None:
        gc.collect()
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_what_no_thread_could_be_started_for_never_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has failed by then, and is tried again: a thread of later must not run it as well."""
    threads, ran = Threads("refused"), list[str]()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            threads.submit(lambda: ran.append("refused"))
    await threads.submit(lambda: ran.append("accepted"))
    await asyncio.sleep(0.05)
    assert ran == ["accepted"]
