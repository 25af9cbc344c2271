"""What the database says of the queues just now: read seldom, however often somebody asks."""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from oban.engines.base import Engine
from oban.engines.metrics import MetricFilter
from oban.engines.nodes import KnownProducer
from oban.engines.operation import Operation
from oban.errors import ObanError
from oban.metrics import REST, Scale, Series

T = TypeVar("T")

#: Seconds that figures are good for, at least; and for so many times as long as reading them took.
LEAST_AGE: Final = 5.0
SHARE: Final = 20
#: Seconds that each read may take.
PATIENCE: Final = 5.0
#: Seconds that somebody who asks waits for a read that runs.
WAIT: Final = 2.0
#: Seconds after which figures that could not be read again say nothing any more.
STALE: Final = 60.0
#: Queues that are told apart: those that nodes run before those that only rows name.
MOST_QUEUES: Final = 200
#: Of how long ago the pace of the queues is read, in steps of a minute.
REACH: Final = 600.0


@dataclass(frozen=True, slots=True)
class Figures:
    #: Jobs by queue, and within it by state: of all states that are not an end.
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    #: Seconds that the oldest available job of a queue has waited, if there is one.
    waits: Mapping[str, float] = field(default_factory=dict)
    #: What runs the queues, and is alive.
    producers: Sequence[KnownProducer] = ()
    #: What ended of late, by queue, in steps of a minute of which the last is not over.
    ended: Mapping[str, Series] = field(default_factory=dict)
    #: When it was read, by the clock of this process.
    read_at: float = field(default_factory=time.monotonic)

    @property
    def age(self) -> float:
        return time.monotonic() - self.read_at

    @property
    def is_stale(self) -> bool:
        return self.age > STALE

    @property
    def queues(self) -> list[str]:
        return sorted({*self.counts, *(each.identity.queue for each in self.producers)})

    @classmethod
    def read(cls, engine: Engine) -> "Figures":
        """Read them over a connection of its own. Raises what the engine raises, and `TooSlow`."""

        def bounded(operation: Operation[T]) -> T:
            return engine.execute_sync(engine.within(operation, PATIENCE))

        living = [each for each in bounded(engine.known_producers()) if each.alive]
        run = {each.identity.queue for each in living}
        counts: dict[str, dict[str, int]] = {}
        for each in bounded(engine.backlog()):
            states = counts.setdefault(each.queue, {})
            states[each.state] = states.get(each.state, 0) + each.count
        shown = sorted({*counts, *run}, key=lambda queue: (queue not in run, queue))[:MOST_QUEUES]
        waits = bounded(engine.lags(shown))
        wanted = MetricFilter(None, None, None, None, MOST_QUEUES)
        series = bounded(engine.metrics("queue", Scale.of(REACH, 60), wanted))
        return cls(gathered(counts, shown), waits, living, {each.group: each for each in series})


def gathered(
    counts: Mapping[str, Mapping[str, int]], shown: Sequence[str]
) -> Mapping[str, Mapping[str, int]]:
    """By the queues that are shown; all others are one, `*`."""
    kept: dict[str, dict[str, int]] = {}
    for queue, states in counts.items():
        kept_states = kept.setdefault(queue if queue in shown else REST, {})
        for state, count in states.items():
            kept_states[state] = kept_states.get(state, 0) + count
    return kept


class Watch:
    """The last figures. Who asks for them when they are old has them read again, on a thread."""

    def __init__(self, engine: Engine, wait: float = WAIT) -> None:
        self.engine = engine
        self.wait = wait
        self.last: Figures | None = None
        #: Why they could not be read the last time, None if they could.
        self.error: str | None = None
        self.due_at = 0.0
        self.guard = threading.Lock()
        self.reading: threading.Event | None = None

    def look(self) -> Figures | None:
        """The last figures that are not stale; waited for a moment, never on an event loop."""
        with self.guard:
            if self.reading is None and time.monotonic() >= self.due_at:
                self.reading = threading.Event()
                threading.Thread(target=self.read, name="oban figures", daemon=True).start()
            reading = self.reading
        if reading is not None and not on_loop():
            reading.wait(self.wait)
        last = self.last
        return None if last is None or last.is_stale else last

    def read(self) -> None:
        began = time.monotonic()
        try:
            self.last, self.error = Figures.read(self.engine), None
        except ObanError as error:  # the last figures stand until they are stale
            self.error = str(error)
        except Exception as error:  # noqa: BLE001  # a thread of ours has nobody to raise it to
            self.error = repr(error)
        finally:
            took = time.monotonic() - began
            with self.guard:
                self.due_at = time.monotonic() + max(LEAST_AGE, took * SHARE)
                assert self.reading is not None
                self.reading.set()
                self.reading = None


def on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
