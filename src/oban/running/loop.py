"""What every loop beside the producers has in common, written once."""

import asyncio
from abc import ABC, abstractmethod

from oban import telemetry
from oban.backoff import LONGEST_OUTAGE_WAIT, outage_backoff


class Alarm:
    """Rests until a time, or until woken; a wake-up that comes early is kept for the next rest."""

    def __init__(self) -> None:
        self.woken = asyncio.Event()

    def wake(self) -> None:
        self.woken.set()

    async def rest(self, delay: float | None) -> None:
        try:
            async with asyncio.timeout(delay):
                await self.woken.wait()
        except TimeoutError:
            pass
        self.woken.clear()


class Loop(ABC):
    """Ticks until ended. A tick that fails is an event and a backoff; the loop lives on."""

    #: Begins the names of its telemetry events.
    name: str
    #: Seconds between two tries while ticks fail, at most.
    longest_wait = LONGEST_OUTAGE_WAIT

    def __init__(self) -> None:
        self.alarm = Alarm()
        #: How many ticks in a row have failed.
        self.failures = 0
        self.ending = False

    def end(self) -> None:
        """Let `run` return once the tick that is under way is done."""
        self.ending = True
        self.alarm.wake()

    @abstractmethod
    async def tick(self) -> float:
        """Do one piece of work; return seconds to rest, zero while there is more."""

    async def run(self) -> None:
        while not self.ending:
            try:
                delay = await self.tick()
                self.failures = 0
            except Exception as error:  # noqa: BLE001  # whatever fails, the loop must live on
                self.failures += 1
                delay = min(self.longest_wait, outage_backoff(self.failures))
                self.tell_outage(error, delay)
            await self.alarm.rest(delay)

    def tell_outage(self, error: BaseException, delay: float) -> None:
        metadata = {"failures": self.failures, "delay": delay, **telemetry.describe_error(error)}
        telemetry.execute(f"{self.name}.outage", metadata)
