"""What is commanded of queues holds on every node: heard or not, and after restarts."""

import asyncio
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from tests.roads import direct
from tests.running.support import Running, eventually, named, reached

from oban import Job, Oban, Worker, worker
from oban.engines.commands import Intent
from oban.engines.signals import ForeignCommand
from oban.errors import InvalidOption
from oban.options import QueueOptions
from oban.running.control import Control
from oban.running.queues import Queues

QUICK = {"interval": 0.1, "max_age": 1}


@worker()
class Quick(Worker):
    async def process(self, job: Job) -> None:
        pass


@worker()
class Gated(Worker):
    gate: asyncio.Event

    async def process(self, job: Job) -> None:
        await Gated.gate.wait()


@worker()
class Slow(Worker):
    gate: threading.Event

    def process(self, job: Job) -> None:
        Slow.gate.wait(20)


async def becomes(look: Callable[[], object], wanted: object, deadline: float = 5.0) -> None:
    async def check() -> bool:
        return look() == wanted

    await eventually(check, deadline)


def paused(oban: Oban) -> dict[str, bool]:
    return {info.queue: info.paused for info in oban.check_all_queues()}


def limits(oban: Oban) -> dict[str, int]:
    return {info.queue: info.limit for info in oban.check_all_queues()}


@pytest.fixture(params=["heard", "unheard"])
def hearing(request: pytest.FixtureRequest, server_dsn: str) -> dict[str, Any]:
    """Options with which a node hears notifications, or never any: it listens elsewhere."""
    return {"refresher": QUICK} | ({"listen_dsn": server_dsn} if request.param == "unheard" else {})


async def test_a_pause_holds_on_all_nodes_and_after_a_restart(
    client: Oban, running: Running, hearing: dict[str, Any]
) -> None:
    queues = {"a": 1, "b": 1}
    async with (
        running(node="one", queues=queues, **hearing) as one,
        running(node="two", queues=queues, **hearing) as two,
    ):
        await client.pause_queue("a")
        await becomes(lambda: [paused(one), paused(two)], [{"a": True, "b": False}] * 2)
        waiting = await client.enqueue(Quick.new(queue="a"))
        assert (await reached(client, await client.enqueue(Quick.new(queue="b")), "completed")).id
    async with running(node="three", queues=queues, **hearing) as three:
        assert paused(three) == {"a": True, "b": False}  # as soon as it has started
        assert (await client.get_job(waiting)).state == "available"  # type: ignore[union-attr]
        await client.resume_queue("a")
        await reached(client, waiting, "completed")


async def test_what_is_commanded_of_one_node_concerns_no_other(
    client: Oban, running: Running, hearing: dict[str, Any]
) -> None:
    async with running(node="one", **hearing) as one, running(node="two", **hearing) as two:
        await client.scale_queue("default", 3, node="two")
        await becomes(lambda: limits(two), {"default": 3})
        await client.pause_queue(queue="default", node="one")
        await becomes(lambda: paused(one), {"default": True})
        assert (limits(one), paused(two)) == ({"default": 10}, {"default": False})


async def test_the_newest_command_wins_whether_it_was_for_one_or_for_all(
    client: Oban, running: Running
) -> None:
    async with running(queues={"a": 1, "b": 1}, refresher=QUICK) as oban:
        await client.pause_all_queues()
        await becomes(lambda: paused(oban), {"a": True, "b": True})
        await client.resume_queue("a")
        await becomes(lambda: paused(oban), {"a": False, "b": True})
        await client.pause_all_queues(node=oban.node)
        await becomes(lambda: paused(oban), {"a": True, "b": True})
        await client.resume_all_queues()
        await becomes(lambda: paused(oban), {"a": False, "b": False})


async def test_a_pause_until_a_time_ends_by_itself(client: Oban, running: Running) -> None:
    async with running(refresher={"interval": 0.5}) as oban:
        until = datetime.now(UTC) + timedelta(seconds=1.2)
        await client.pause_queue("default", until=until)
        await becomes(lambda: paused(oban), {"default": True})
        (command,) = await client.list_commands()
        assert command.expires_in is not None
        assert 0 < command.expires_in <= 1.2
        await becomes(lambda: paused(oban), {"default": False})
        assert datetime.now(UTC) >= until
        assert await client.list_commands() == []


@pytest.mark.hears("the command is heard")
async def test_a_short_pause_does_not_last_until_the_next_beat(
    client: Oban, running: Running
) -> None:
    async with running(refresher={"interval": 30}) as oban:
        await becomes(lambda: oban.hearing, None)
        await client.pause_queue("default", until=timedelta(seconds=0.6))
        await becomes(lambda: paused(oban), {"default": True})
        await becomes(lambda: paused(oban), {"default": False}, deadline=3)


async def test_a_queue_can_be_started_where_it_is_not_configured_and_stopped_where_it_is(
    client: Oban, running: Running, hearing: dict[str, Any]
) -> None:
    async with running(node="one", **hearing) as one:
        await client.start_queue(queue="extra", limit=2)
        await becomes(lambda: limits(one), {"default": 10, "extra": 2})
        await reached(client, await client.enqueue(Quick.new(queue="extra")), "completed")
        await client.stop_queue("default")
        await becomes(lambda: limits(one), {"extra": 2})
        waiting = await client.enqueue(Quick.new())
    async with running(node="two", **hearing) as two:
        assert limits(two) == {"extra": 2}
        assert (await client.get_job(waiting)).state == "available"  # type: ignore[union-attr]
        assert await client.reset_queue("default") == 1
        assert await client.reset_queue("extra") == 2
        await becomes(lambda: limits(two), {"default": 10})
        await reached(client, waiting, "completed")


async def test_a_queue_that_is_stopped_lets_its_jobs_finish(client: Oban, running: Running) -> None:
    Gated.gate = asyncio.Event()
    async with running(refresher=QUICK, shutdown_grace_period=5) as oban:
        job = await client.enqueue(Gated.new())
        await reached(client, job, "executing")
        await client.stop_queue("default")
        await becomes(lambda: oban.check_queue("default"), None)
        assert (await client.get_job(job)).state == "executing"  # type: ignore[union-attr]
        Gated.gate.set()
        await reached(client, job, "completed")


async def test_of_a_queue_that_was_stopped_and_is_done_nothing_is_left(
    client: Oban, running: Running, oban_dsn: str
) -> None:
    """With the heartbeats of an hour: whoever gave the command would wait for it in vain."""
    async with running(refresher={"interval": 3600}) as oban:
        await eventually(client.list_queues)
        await client.stop_queue("default")
        assert oban.running_node is not None
        oban.running_node.heart.beat_soon()

        async def gone() -> bool:
            return not await client.list_queues()

        await eventually(gone)


async def test_jobs_that_outlast_the_grace_of_a_stopped_queue_go_back(
    client: Oban, running: Running
) -> None:
    Gated.gate = asyncio.Event()
    async with running(refresher=QUICK, shutdown_grace_period=0.3):
        job = await client.enqueue(Gated.new())
        await reached(client, job, "executing")
        await client.stop_queue("default")
        back = await reached(client, job, "available")
        assert back.attempt == 0


async def test_a_thread_that_outlasts_the_grace_of_its_queue_keeps_its_row_and_its_outcome(
    client: Oban, running: Running
) -> None:
    Slow.gate = threading.Event()
    async with running(refresher=QUICK, shutdown_grace_period=0.2) as oban:
        job = await client.enqueue(Slow.new())
        await reached(client, job, "executing")
        await client.stop_queue("default")
        await becomes(lambda: oban.check_queue("default"), None)
        await asyncio.sleep(2)  # longer than anybody waits for a sign of life
        assert (await client.get_job(job)).state == "executing"  # type: ignore[union-attr]
        Slow.gate.set()
        done = await reached(client, job, "completed")
        assert (done.attempt, done.meta) == (1, {})


async def test_a_queue_may_stop_and_start_while_its_jobs_still_run(
    client: Oban, running: Running
) -> None:
    Gated.gate = asyncio.Event()
    async with running(refresher=QUICK, shutdown_grace_period=5) as oban:
        job = await client.enqueue(Gated.new())
        await reached(client, job, "executing")
        await client.stop_queue("default")
        await becomes(lambda: oban.check_queue("default"), None)
        await client.start_queue("default")
        await becomes(lambda: limits(oban), {"default": 10})
        await reached(client, await client.enqueue(Quick.new()), "completed")
        Gated.gate.set()
        assert (await reached(client, job, "completed")).attempt == 1


async def test_a_start_on_all_nodes_is_for_those_that_come_later(
    client: Oban, running: Running
) -> None:
    await client.start_queue("extra", limit=4, paused=True)
    async with running() as oban:
        assert limits(oban) == {"default": 10, "extra": 4}
        assert paused(oban) == {"default": False, "extra": True}


async def test_clients_obey_nothing(client: Oban) -> None:
    await client.start_queue("extra")
    assert client.check_all_queues() == []


async def test_each_override_is_told_with_its_time(
    client: Oban, running: Running, events: list[Any]
) -> None:
    before = datetime.now(UTC)
    await client.pause_queue("default")
    async with running():
        pass
    (told,) = named(events, "oban.queue.control")
    assert (told["queue"], told["aspect"], told["value"]) == ("default", "paused", True)
    assert before - timedelta(seconds=5) < told["commanded_at"] < datetime.now(UTC)


async def test_commands_of_one_name_concern_no_other(client: Oban, running: Running) -> None:
    await client.pause_all_queues()
    async with running(name="Other") as oban:
        assert paused(oban) == {"default": False}


@pytest.mark.hears("the command is heard")
async def test_foreign_commands_act_in_memory_until_the_next_of_ours(
    client: Oban, running: Running, oban_dsn: str
) -> None:
    def tell(**message: Any) -> None:
        connection.execute("select pg_notify('public.oban_signal', %s)", [json.dumps(message)])

    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        async with running(refresher=QUICK, node="one") as oban:
            await becomes(lambda: oban.hearing, None)
            tell(action="pause", queue="default", ident="any")
            await becomes(lambda: paused(oban), {"default": True})
            tell(action="scale", queue="default", ident="Oban.one", limit=4)
            await becomes(lambda: limits(oban), {"default": 4})
            tell(action="scale", queue="default", ident="Oban.two", limit=5)
            tell(action="resume", queue="*", ident="any")
            await becomes(lambda: paused(oban), {"default": False})
            assert limits(oban) == {"default": 4}
            tell(action="stop", queue="default", ident="any")
            await becomes(lambda: limits(oban), {})
            tell(action="start", queue="extra", ident="any", limit=2)  # none of ours
            tell(action="start", queue="default", ident="any", limit=4)
            await becomes(lambda: limits(oban), {"default": 4})
            assert await client.list_commands() == []
            await client.scale_queue("default", 6)
            await becomes(lambda: limits(oban), {"default": 6})


@pytest.mark.hears("the command is heard")
async def test_a_command_of_one_name_is_not_obeyed_as_a_foreign_one_by_another(
    client: Oban, running: Running
) -> None:
    async with running(refresher=QUICK) as ours, running(refresher=QUICK, name="Other") as other:
        await becomes(lambda: (ours.hearing, other.hearing), (None, None))
        await client.pause_queue("default")
        await client.scale_queue("default", 3)
        await becomes(lambda: limits(ours), {"default": 3})
        await becomes(lambda: paused(ours), {"default": True})
        await reached(client, await client.enqueue(Quick.new()), "completed")
        assert (limits(other), paused(other)) == ({"default": 10}, {"default": False})


async def test_who_only_leads_runs_nothing_whatever_is_commanded(
    client: Oban, running: Running
) -> None:
    await client.start_queue("extra")
    async with running(queues={}, leadership=True, refresher=QUICK) as oban:
        assert oban.running_node is not None
        await oban.running_node.heart.beat()
        assert oban.check_all_queues() == []


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_queue_that_is_stopped_while_its_process_stops_beats_to_the_end(
    client: Oban, running: Running, oban_dsn: str, when: str
) -> None:
    Gated.gate = asyncio.Event()
    async with running(refresher=QUICK, shutdown_grace_period=10) as oban:
        job = await client.enqueue(Gated.new())
        await reached(client, job, "executing")
        if when == "before":
            await client.stop_queue("default")
            await becomes(lambda: oban.check_queue("default"), None)
        stopping = asyncio.create_task(oban.stop())
        await asyncio.sleep(0.2)
        if when == "after":
            await client.stop_queue("default")
        with psycopg.connect(oban_dsn, autocommit=True) as connection:
            for _ in range(5):
                await asyncio.sleep(0.3)
                rows = connection.execute(
                    "select timezone('UTC', now()) - updated_at < interval '1 second' "
                    "from oban_producers"
                ).fetchall()
                assert rows == [(True,)]
        Gated.gate.set()
        await stopping
    assert (await client.get_job(job)).state == "completed"  # type: ignore[union-attr]


async def test_commands_that_cannot_be_read_stop_no_heartbeat(
    client: Oban, running: Running, oban_dsn: str
) -> None:
    async with running(refresher=QUICK) as oban:
        with psycopg.connect(oban_dsn, autocommit=True) as connection:
            for queue, value, at in (
                ("a", "1", "infinity"),
                ("b", "9" * 9999, "now"),
                ("c", json.dumps({"x": "y" * 99}), "now"),
            ):
                connection.execute(
                    "insert into oban_queue_intents (name, queue, node, aspect, value, set_at) "
                    "values ('Oban', %s, '*', 'limit', %s::jsonb, %s::timestamptz)",
                    [queue, value, at],
                )
        await client.scale_queue("default", 3)
        await becomes(lambda: limits(oban), {"default": 3})
        assert [each.queue for each in await client.list_commands()] == ["default"]


async def test_other_packages_are_told_with_keys_they_know(client: Oban, oban_dsn: str) -> None:
    with psycopg.connect(direct(oban_dsn), autocommit=True) as connection:
        connection.execute('listen "public.oban_signal"')
        await client.pause_queue("a")
        await client.resume_all_queues(node="one")
        await client.scale_queue("a", 3)
        await client.start_queue("a", 2, True)
        await client.stop_queue("a")
        await client.pause_queue("a", until=timedelta(hours=1))  # nobody would resume there
        await client.start_queue("a")
        heard = [json.loads(each.payload) for each in connection.notifies(timeout=5, stop_after=6)]
    everywhere = {"queue": "a", "ident": "any"}
    assert heard == [
        {"action": "pause", **everywhere},
        {"action": "resume", "queue": "*", "ident": "Oban.one"},
        {"action": "scale", **everywhere, "limit": 3},
        {"action": "start", **everywhere, "limit": 2, "paused": True},
        {"action": "stop", **everywhere},
        {"action": "start", **everywhere},
    ]


async def test_what_each_node_does_is_read_back_by_any_other(
    client: Oban, running: Running, server_dsn: str
) -> None:
    Gated.gate = asyncio.Event()
    async with running(node="one", refresher=QUICK, listen_dsn=server_dsn):
        job = await client.enqueue(Gated.new())
        await reached(client, job, "executing")

        async def look() -> bool:
            return [info.running for info in await client.list_queues()] == [[job.id]]

        await eventually(look)
        (info,) = await client.list_queues()
        assert (info.node, info.queue, info.limit, info.paused) == ("one", "default", 10, False)
        assert all(0 <= float(str(info.meta[each])) < 1 for each in ("beat_age", "loop_lag"))
        Gated.gate.set()
    assert await client.list_queues() == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (lambda oban: oban.pause_queue("*"), "pause_all_queues"),
        (lambda oban: oban.pause_queue(""), "queue"),
        (lambda oban: oban.pause_queue("a", node=""), "node"),
        (lambda oban: oban.scale_queue("a", 0), "queue.limit is 0"),
        (lambda oban: oban.scale_queue(queue="a", limit="3"), "whole number"),
        (lambda oban: oban.start_queue("a", limit=-1), "queue.limit is -1"),
        (lambda oban: oban.pause_queue("a", until=datetime(2020, 1, 1)), "aware datetime"),
        (lambda oban: oban.pause_queue("a", until=timedelta(0)), "in the future"),
    ],
)
async def test_a_wrong_command_is_refused(
    client: Oban, command: Callable[[Oban], Any], said: str
) -> None:
    with pytest.raises(InvalidOption, match=said):
        await command(client)
    assert await client.list_commands() == []


def test_values_that_nobody_of_us_stored_are_passed_over() -> None:
    queues = Queues(lambda *_: pytest.fail("nothing is started"), {}, 1.0)
    control = Control("Oban", "node", {"a": QueueOptions()}, queues)
    now = datetime.now(UTC)
    control.hear([Intent("a", "*", "limit", 0, 1, now), Intent("a", "*", "paused", "x", 2, now)])  # type: ignore[arg-type]
    assert control.applied == {}
    control.obey(ForeignCommand("stop", "unknown", "any"))
