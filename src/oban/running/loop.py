"""What every loop beside the producers has in common, written once."""

import asyncio
from abc import ABC, abstractmethod

from oban import telemetry
from oban.backoff import outage_backoff


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
    """Ticks until cancelled. A tick that fails is an event and a backoff; the loop lives on."""

    #: Begins the names of its telemetry events.
    name: str

    def __init__(self) -> None:
        self.alarm = Alarm()

    @abstractmethod
    async def tick(self) -> float:
        """Do one piece of work; return seconds to rest, zero while there is more."""

    async def run(self) -> None:
        failures = 0
        while True:
            try:
                delay = await self.tick()
                failures = 0
            except Exception as error:  # noqa: BLE001  # whatever fails, the loop must live on
                failures += 1
                delay = outage_backoff(failures)
                metadata = {"failures": failures, "delay": delay, **telemetry.describe_error(error)}
                telemetry.execute(f"{self.name}.outage", metadata)
            await self.alarm.rest(delay)
