"""The queues that run on this node: started and stopped one by one, or all together."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from oban.options import QueueOptions
from oban.running.producer import Producer

Make = Callable[[str, QueueOptions], Producer]


class Queues:
    """Made with those that are configured; the node opens them once it has beaten for them."""

    def __init__(
        self,
        make: Make,
        configured: Mapping[str, QueueOptions],
        grace: float,
        on_retired: Callable[[], None] = lambda: None,
    ) -> None:
        self.make = make
        self.grace = grace
        #: Has the others know that a queue that was stopped is done.
        self.on_retired = on_retired
        self.active = {queue: make(queue, options) for queue, options in configured.items()}
        #: Stopped by a command while some of their jobs still run.
        self.leaving: dict[Producer, asyncio.Task[None]] = {}
        self.loops: dict[Producer, asyncio.Task[None]] = {}
        self.opened = False
        #: The process stops: its queues stay in the heartbeat to the end, whatever is commanded.
        self.closing = False

    def producers(self) -> list[Producer]:
        """All that have something to tell with the next heartbeat."""
        return [*self.active.values(), *self.leaving]

    def open(self) -> None:
        self.opened = True
        for producer in self.active.values():
            self.launch(producer)

    def launch(self, producer: Producer) -> None:
        name = f"oban queue {producer.identity.queue}"
        self.loops[producer] = asyncio.create_task(producer.run(), name=name)

    def start(self, queue: str, options: QueueOptions) -> None:
        """Run one more; it claims nothing before the next heartbeat has recorded it."""
        if self.closing:
            return
        producer = self.active[queue] = self.make(queue, options)
        if self.opened:
            self.launch(producer)

    def stop(self, queue: str) -> None:
        """Let its jobs finish within the grace period, beside the other queues."""
        if self.closing:
            return
        producer = self.active.pop(queue)
        if self.opened:
            retiring = producer.retire(self.loops[producer], self.grace)
            task = self.leaving[producer] = asyncio.create_task(retiring)
            task.add_done_callback(lambda _: self.forget(producer))

    def forget(self, producer: Producer) -> None:
        if not self.closing:
            self.leaving.pop(producer, None)
            self.loops.pop(producer, None)
            self.on_retired()

    def wake(self) -> None:
        for producer in self.producers():
            producer.wake()

    def drain(self) -> None:
        for producer in self.producers():
            producer.drain()

    async def close(self, grace: float, *, exiting: bool) -> None:
        """Stop all within one grace period.

        They stay listed: the heartbeat, which ends after them, has to know what is unsettled.
        """
        self.closing = True
        producers, retiring = self.producers(), list(self.leaving.values())
        loops = [self.loops[each] for each in producers]
        for task in retiring:
            task.cancel()  # the end of the process comes first
        if retiring:
            await asyncio.wait(retiring)
        await together(
            producer.stop(loop, grace, exiting=exiting)
            for producer, loop in zip(producers, loops, strict=True)
        )


async def together(work: Iterable[Any]) -> None:
    """Await all, whatever fails; then raise the first failure."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
