"""The broadcaster: tells nodes of other packages, and their dashboards, what goes on here.

The messages are theirs: one that they cannot read would silence all their channels for good, so
they hold the keys that are known there and no others.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from oban.engines.base import Engine, Session
from oban.engines.metrics import Channel, Times
from oban.engines.reads import JobCount
from oban.fields import encode
from oban.options import SchedulerOptions
from oban.running.leader import Leader
from oban.running.loop import Loop
from oban.running.meter import Meter
from oban.running.producer import Producer
from oban.running.scheduler import entries_of

#: Seconds between two rounds, and between two of the crontab.
INTERVAL: Final = 1.0
CRONITOR: Final = 30.0
#: Counting all jobs reads the table: it may take this part of the leader's connection.
COUNTING_SHARE: Final = 0.05
#: Bytes of a payload, of which PostgreSQL takes fewer than 8,000.
MOST_BYTES: Final = 7_900
#: Bins of a sketch in one message, and bytes of the running jobs of a queue that are named: beside
#: them there has to be room for the longest names.
MOST_BINS: Final = 200
RUNNING_BYTES: Final = 5_000

Message = Mapping[str, Any]


class Broadcaster(Loop):
    """Each second, on the loop of the jobs. What attempts took passes through to who keeps it.

    A round is one transaction. What counting has found goes with the next, since it takes a while.
    """

    name = "oban.broadcaster"

    def __init__(
        self,
        engine: Engine,
        session: Session,
        scheduler: SchedulerOptions,
        leader: Leader,
        *,
        name: str,
        meter: Meter,
        keeper: Meter,
        queue_loops: Callable[[], Sequence[Producer]],
    ) -> None:
        super().__init__()
        self.engine = engine
        self.session = session
        self.scheduler = scheduler
        self.leader = leader
        self.instance = name
        #: What the executor notes, and where it goes from here.
        self.meter = meter
        self.keeper = keeper
        self.queue_loops = queue_loops
        self.cronitor_at = 0.0
        self.count_at = 0.0
        self.counts: list[Message] = []

    async def tick(self) -> float:
        began = time.monotonic()
        if messages := self.messages(began):
            await self.session.execute(self.engine.broadcast(messages))
        self.counts = []
        if self.leader.is_leader and began >= self.count_at:
            counting = time.monotonic()
            self.counts = list(map(full_count, await self.session.execute(self.engine.counts())))
            self.count_at = began + (time.monotonic() - counting) / COUNTING_SHARE
        return max(0.0, began + INTERVAL - time.monotonic())

    def messages(self, now: float) -> list[tuple[Channel, str]]:
        """What is told in one round."""
        checks = [check_of(each) for each in self.queue_loops()]
        told: list[tuple[Channel, str]] = []
        told += [("gossip", each) for each in payloads_of("checks", checks, {})]
        if now >= self.cronitor_at:
            self.cronitor_at = now + CRONITOR
            crontab = payloads_of("crontab", self.crontab(), self.sender())
            told += [("cronitor", each) for each in crontab]
        metrics = [metric for each in self.pass_on() for metric in metrics_of(each)]
        sender = {**self.sender(), "time": int(time.time())}
        found = payloads_of("metrics", [*metrics, *self.counts], sender)
        told += [("metrics", each) for each in found]
        return told

    def pass_on(self) -> list[Times]:
        times = self.meter.take()
        self.keeper.put_back(times)
        return times

    def sender(self) -> Message:
        return {"name": self.instance, "node": self.leader.node}

    def crontab(self) -> list[Any]:
        entries, _ = entries_of(self.instance, self.scheduler.periodic)
        zone = self.scheduler.timezone
        return [
            [each.expr, each.worker, {"timezone": each.timezone or zone, "name": each.name}]
            for each in entries
        ]


def payloads_of(key: str, items: Iterable[Any], rest: Message) -> Iterator[str]:
    """Messages with all items under the key, each as long as a payload may be."""
    room = MOST_BYTES - size_of(encode({key: [], **rest}))
    chosen: list[Any] = []
    left = room
    for item in items:
        size = size_of(encode(item)) + 1
        if size > room:
            continue  # a name of thousands of characters, from somebody's table
        if size > left:
            yield encode({key: chosen, **rest})
            chosen, left = [], room
        chosen.append(item)
        left -= size
    if chosen:
        yield encode({key: chosen, **rest})


def size_of(text: str) -> int:
    return len(text.encode())


def check_of(producer: Producer) -> Message:
    """What is told of a queue that runs here."""
    pulse = producer.pulse()
    identity, meta = pulse.identity, pulse.meta
    return {
        "uuid": identity.uuid,
        "name": identity.name,
        "node": identity.node,
        "queue": identity.queue,
        "limit": meta["limit"],
        "local_limit": meta["limit"],
        "global_limit": meta["global_limit"],
        "rate_limit": meta["rate_limit"],
        "paused": meta["paused"],
        "running": list(first_running(producer.slots.running())),
        "started_at": pulse.started_at.isoformat(),
        "updated_at": datetime.now(UTC).isoformat(),
        "shutdown_started_at": meta["shutdown_started_at"],
    }


def first_running(ids: Iterable[int]) -> Iterator[int]:
    """As many as there is room for."""
    left = RUNNING_BYTES
    for each in ids:
        left -= len(str(each)) + 1
        if left < 0:
            return
        yield each


def metrics_of(times: Times) -> Iterator[Message]:
    """Attempts of a second: how many, and what they took. A wide sketch becomes several."""
    labels = {"state": times.state, "queue": times.queue, "worker": times.worker}
    count = sum(times.exec.values())
    yield {"series": "exec_count", **labels, "value": {"data": [count]}}
    for series, bins in (("exec_time", times.exec), ("wait_time", times.wait)):
        left = iter(sorted(bins.items()))
        while chosen := dict(islice(left, MOST_BINS)):
            data = {str(index): number for index, number in chosen.items()}
            value = {"data": data, "size": sum(chosen.values())}
            yield {"series": series, **labels, "value": value}


def full_count(count: JobCount) -> Message:
    labels = {"state": count.state, "queue": count.queue}
    return {"series": "full_count", **labels, "value": {"data": [count.count]}}
