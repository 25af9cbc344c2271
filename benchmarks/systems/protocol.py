"""What every system under measurement is asked to do, whatever it is made of.

An adapter is a program that runs in an environment of its own: `python ADAPTER COMMAND ORDER`, with
the order as JSON. It is started for each measurement anew and imports nothing of ours but this
module, which needs only the standard library. `main` is the whole program of an adapter in Python;
one in another language does the same by itself:

- `prepare`: make the tables, print nothing.
- `enqueue`: insert jobs as `Order.how` says, print one line `{"seconds": …, "count": …}`.
- `work`: print one line `{"ready": true}` once jobs are taken, run them until SIGTERM, exit 0.

A job that runs writes one line to the file of records, see `Recorder`. What was measured follows
from those lines and from the clock that all processes of a machine share, not from what a system
says of itself.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

Args = dict[str, Any]


@dataclass(frozen=True)
class Order:
    """One thing to do. A field that does not concern the command has its default."""

    #: Where the jobs are: a PostgreSQL DSN, or the URL of a Redis.
    dsn: str
    #: The file that jobs write their records to.
    records: str = ""
    #: How many jobs run at once in this process.
    concurrency: int = 10
    #: How many jobs to enqueue, the number of the first, and their step: `first`, `first + step`, …
    count: int = 0
    first: int = 0
    step: int = 1
    #: `one`: each awaited in turn. `concurrent`: by `callers` coroutines. `bulk`: as many as the
    #: system takes at once. `stream`: the same of a generator, which not all take. `paced`: `batch`
    #: of them every `pause` seconds.
    how: str = "one"
    callers: int = 100
    pause: float = 0.0
    batch: int = 1
    #: When to begin, in seconds of CLOCK_MONOTONIC, so that several begin together; zero: at once.
    begin: float = 0.0
    #: Scheduled jobs are due within `delay` seconds, spread evenly between a little and that.
    delay: float = 0.0
    #: Characters of text in the arguments.
    payload: int = 0
    #: How many priorities the jobs are spread over.
    priorities: int = 1
    #: Whether each job fails when it first runs, to be tried again without delay.
    fail: bool = False
    #: Whether a job is inserted only if none like it is there.
    unique: bool = False
    #: Limits over all nodes that are never reached: `global`, `shared`, `rate`, and of 100
    #: partitions `partitions` and `rates`.
    limits: str = ""
    #: Seconds between two times that metrics are kept; zero: none are. None is the default.
    metrics: float | None = None
    #: Whether nodes are told of what is inserted.
    notify: bool = True
    #: How many more queues the worker has, all of them empty.
    idle_queues: int = 0
    #: Whether the worker forgets finished jobs of more than a day, looking every second.
    prune: bool = False

    @classmethod
    def parse(cls, text: str) -> "Order":
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in json.loads(text).items() if name in known})

    def args(self) -> list[Args]:
        """The arguments of the jobs: their number, and what the scenario wants to know of them."""
        return list(self.each())

    def each(self) -> Iterator[Args]:
        text = {"text": "x" * self.payload} if self.payload else {}
        for index in range(self.count):
            yield {"n": self.first + self.step * index, **text}

    def priority_of(self, args: Mapping[str, Any]) -> int:
        return int(args["n"]) % self.priorities


class Recorder:
    """Appends one line for each run: the job's number, when it began, when it was expected.

    Times are of CLOCK_MONOTONIC in nanoseconds; the last is zero where nothing was expected. A run
    that fails writes none.
    """

    def __init__(self, path: str) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def __call__(self, args: Mapping[str, Any]) -> None:
        self.write(f"{args['n']} {time.monotonic_ns()} {args.get('at', 0)}\n")

    def write(self, lines: str) -> None:
        os.write(self.file, lines.encode())


class Adapter(Protocol):
    """What an adapter in Python provides; `main` does the rest."""

    async def prepare(self, order: Order) -> None: ...

    async def open(self, order: Order) -> None:
        """Connect, so that enqueueing can be timed without that."""
        ...

    async def close(self) -> None: ...

    async def enqueue(self, args: Args, *, priority: int = 0, delay: float = 0.0) -> None:
        """One job, durable when this returns."""
        ...

    async def enqueue_many(self, many: Sequence[Args], priorities: Sequence[int]) -> None:
        """All of them, as the system does it best. NotImplementedError where it has no such way."""
        ...

    async def work(self, order: Order, ready: Callable[[], None]) -> None:
        """Run jobs until cancelled, then stop as the system's own command does."""
        ...


@runtime_checkable
class Streaming(Protocol):
    """An adapter whose system takes jobs of a generator."""

    async def enqueue_stream(self, many: Iterable[Args]) -> None: ...


def main(adapter: Adapter) -> None:
    command, text = sys.argv[1:]
    order = Order.parse(text)
    match command:
        case "prepare":
            asyncio.run(adapter.prepare(order))
        case "enqueue":
            seconds = run(enqueue(adapter, order))
            answer = {"seconds": seconds, "count": order.count, "memory": most_memory()}
            print(json.dumps(answer), flush=True)
        case "work":
            run(work(adapter, order))
        case _:
            sys.exit(f"{command!r} is not prepare, enqueue or work")


def run(coroutine: Any) -> Any:
    """On uvloop where it is installed, as who wants speed does."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(coroutine)
    return uvloop.run(coroutine)


async def enqueue(adapter: Adapter, order: Order) -> float:
    """Seconds that inserting takes, the connection being open."""
    many = [] if order.how == "stream" else order.args()
    await adapter.open(order)
    try:
        await asyncio.sleep(order.begin - time.monotonic())
        began = time.monotonic()
        match order.how:
            case "one":
                for args in many:
                    await adapter.enqueue(args, priority=order.priority_of(args))
            case "concurrent":
                shared = iter(many)

                async def caller() -> None:
                    for args in shared:
                        await adapter.enqueue(args, priority=order.priority_of(args))

                await asyncio.gather(*(caller() for _ in range(order.callers)))
            case "bulk":
                await adapter.enqueue_many(many, [order.priority_of(args) for args in many])
            case "stream":
                assert isinstance(adapter, Streaming), "this system does not take a generator"
                await adapter.enqueue_stream(order.each())
            case "paced":
                await paced(adapter, order, many)
            case other:
                raise ValueError(f"how is {other!r}")
        return time.monotonic() - began
    finally:
        await adapter.close()


async def paced(adapter: Adapter, order: Order, many: Sequence[Args]) -> None:
    """A batch every `pause` seconds, or as late as the one before; each says when it was expected.

    A batch is handed over at once, or by as many coroutines where the system has no such way.
    """
    begin = time.monotonic()
    bulk = order.batch > 1
    for start in range(0, len(many), order.batch):
        await asyncio.sleep(begin + start / order.batch * order.pause - time.monotonic())
        part = many[start : start + order.batch]
        delay = 0.0
        if order.delay:
            delay = order.delay * (0.05 + 0.95 * ((start * 37) % len(many)) / len(many))
        now = time.monotonic_ns()
        for args in part:
            args["at"] = now + round(delay * 1e9)
        priorities = [order.priority_of(args) for args in part]
        if bulk:
            try:
                await adapter.enqueue_many(part, priorities)
                continue
            except NotImplementedError:
                bulk = False
        await asyncio.gather(
            *(
                adapter.enqueue(args, priority=priority, delay=delay)
                for args, priority in zip(part, priorities, strict=True)
            )
        )


async def work(adapter: Adapter, order: Order) -> None:
    task = asyncio.create_task(adapter.work(order, ready))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


def ready() -> None:
    print('{"ready": true}', flush=True)


def most_memory() -> float:
    """The most this process has had in memory, in MiB; zero where the system does not tell."""
    try:
        found = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()
    except OSError:
        return 0.0
    return int(found[0]) / 1024
