"""When the nodes are told of an insert: at once, and then not again for a moment."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from oban import Job
from oban.bell import WINDOW, Bell
from oban.states import JobState


class Nodes:
    def __init__(self) -> None:
        self.heard: list[list[str]] = []
        self.error: Exception | None = None
        self.near = asyncio.Event()
        self.near.set()

    async def ring(self, queues: list[str]) -> None:
        await self.near.wait()
        self.heard.append(queues)
        if self.error is not None:
            raise self.error


def jobs(*queues: str) -> list[Job]:
    return [Job(worker="w", queue=queue) for queue in queues]


def later(queue: str) -> Job:
    return Job(worker="w", queue=queue, scheduled_at=datetime.now(UTC) + timedelta(seconds=1))


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


@pytest.fixture
def bell(nodes: Nodes) -> Bell:
    return Bell(nodes.ring)


async def over(bell: Bell) -> None:
    """Wait until every window has ended."""
    async with asyncio.timeout(5):
        while bell.until or bell.untold or bell.ringing:
            await asyncio.sleep(WINDOW)


async def test_who_comes_after_a_pause_tells_by_himself(bell: Bell, nodes: Nodes) -> None:
    for _ in range(3):
        assert bell.is_due(jobs("a"))
        await over(bell)
    assert nodes.heard == []


async def test_what_follows_at_once_is_told_together_when_the_window_ends(
    bell: Bell, nodes: Nodes
) -> None:
    assert bell.is_due(jobs("a"))
    assert bell.is_due(jobs("b"))
    for queue in ("a", "b", "a"):
        assert not bell.is_due(jobs(queue))
        bell.inserted(jobs(queue))
    assert nodes.heard == []
    await over(bell)
    assert nodes.heard == [["a", "b"]]


async def test_an_insert_that_ends_after_the_window_is_told_then(bell: Bell, nodes: Nodes) -> None:
    assert bell.is_due(jobs("a"))
    assert not bell.is_due(jobs("a"))
    await over(bell)  # and the insert is still on its way
    bell.inserted(jobs("a"))
    await over(bell)
    assert nodes.heard == [["a"]]


async def test_it_never_ends_while_inserts_follow_each_other_and_none_is_forgotten(
    bell: Bell, nodes: Nodes
) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert bell.is_due(jobs("a"))
    while loop.time() < began + 10 * WINDOW:
        if not bell.is_due(jobs("a")):
            bell.inserted(jobs("a"))
        await asyncio.sleep(WINDOW / 10)
    if not bell.is_due(jobs("a")):
        bell.inserted(jobs("a"))
    took = loop.time() - began
    await over(bell)
    assert 1 <= len(nodes.heard) <= took / WINDOW + 2
    assert not bell.untold


@pytest.mark.parametrize("among", ["alone", "with others"])
async def test_jobs_that_are_not_available_silence_nobody(
    bell: Bell, nodes: Nodes, among: str
) -> None:
    others = [later("a"), Job(worker="w", queue="a", state=JobState.SUSPENDED)]
    assert bell.is_due(jobs("a"))
    for _ in range(20):
        for other in others:
            assert bell.is_due([other] if among == "alone" else [other, *jobs("a")])
        if not bell.is_due(jobs("a")):
            bell.inserted(jobs("a"))
        await asyncio.sleep(WINDOW / 4)
    assert len(nodes.heard) >= 2
    await over(bell)


async def test_jobs_that_are_not_available_begin_no_window(bell: Bell) -> None:
    assert bell.is_due([later("a")])
    assert bell.is_due(jobs("a"))
    await over(bell)


async def test_one_queue_does_not_keep_another_waiting(bell: Bell) -> None:
    assert bell.is_due(jobs("a"))
    assert bell.is_due(jobs("a", "b"))
    assert not bell.is_due(jobs("a", "b"))
    await over(bell)


async def test_when_a_job_is_due_is_always_told(bell: Bell) -> None:
    for _ in range(3):
        assert bell.is_due([later("a"), *jobs("a")])
    await over(bell)


async def test_at_the_end_what_is_left_is_told(bell: Bell, nodes: Nodes) -> None:
    await bell.flush()
    assert bell.is_due(jobs("a"))
    assert not bell.is_due(jobs("a"))
    bell.inserted(jobs("a"))
    await bell.flush()
    assert nodes.heard == [["a"]]
    await over(bell)


async def test_telling_that_hangs_keeps_nobody_from_being_told(
    bell: Bell, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oban.bell.RINGING", 0.01)
    nodes.near.clear()
    assert bell.is_due(jobs("a"))
    bell.inserted(jobs("a"))
    await over(bell)
    nodes.near.set()
    assert bell.is_due(jobs("b"))
    bell.inserted(jobs("b"))
    await over(bell)
    assert nodes.heard == [["b"]]


async def test_a_database_that_is_away_fails_nobody(bell: Bell, nodes: Nodes) -> None:
    nodes.error = RuntimeError("away")
    assert bell.is_due(jobs("a"))
    bell.inserted(jobs("a"))
    await bell.flush()
    await over(bell)
    assert nodes.heard == [["a"]]


def test_windows_of_one_loop_are_none_of_the_next(bell: Bell) -> None:
    async def insert() -> bool:
        return bell.is_due(jobs("a"))

    assert asyncio.run(insert())
    assert asyncio.run(insert())


@pytest.mark.parametrize("left", ["in the window", "while it is told"])
def test_what_one_loop_leaves_untold_the_next_tells(bell: Bell, nodes: Nodes, left: str) -> None:
    async def insert() -> None:
        assert bell.is_due(jobs("a"))
        assert not bell.is_due(jobs("a"))
        bell.inserted(jobs("a"))
        if left == "while it is told":
            nodes.near.clear()
            bell.tell()
            await asyncio.sleep(0)  # it begins, and the loop ends

    async def come() -> None:
        nodes.near.set()
        assert bell.is_due(jobs("b"))
        await over(bell)

    asyncio.run(insert())
    asyncio.run(come())
    assert nodes.heard == [["a"]]


def test_an_insert_into_a_queue_that_a_loop_left_untold_tells_by_itself(bell: Bell) -> None:
    bell.untold = {"a"}

    async def insert() -> bool:
        return bell.is_due(jobs("a"))

    assert asyncio.run(insert())
