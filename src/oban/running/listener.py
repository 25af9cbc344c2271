"""The listener: hands what the other nodes say to whoever acts on it."""

from collections.abc import Callable

from oban import telemetry
from oban.engines.base import Engine
from oban.engines.signals import Signal, Undecodable
from oban.running.loop import Loop


class Listener(Loop):
    """Listens for as long as the node runs. `hear` does no I/O: it only wakes others."""

    name = "oban.signals"

    def __init__(self, engine: Engine, hear: Callable[[Signal], None]) -> None:
        super().__init__()
        self.engine = engine
        self.hear = hear

    async def tick(self) -> float:
        """Hear signals until they end, which they do only by failing."""
        async for signal in self.engine.signals():
            if isinstance(signal, Undecodable):
                metadata = {"channel": signal.channel, "reason": signal.reason}
                telemetry.execute("oban.signals.undecodable", metadata)
            else:
                self.hear(signal)
        return 0.0
