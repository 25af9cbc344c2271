"""The reporter: tells the database how long the attempts of this process took."""

from typing import Final

from oban import telemetry
from oban.engines.base import Engine, Session
from oban.errors import DataRefused, OutcomeUnknown
from oban.options import MetricsOptions
from oban.running.loop import Loop
from oban.running.meter import Meter

#: Intervals between two: each takes a connection.
PATIENCE: Final = 2
#: Sketches that one statement tells.
MOST_TOLD: Final = 200


class Reporter(Loop):
    """Runs on every node, beside the jobs. What a killed process has not told yet is lost."""

    name = "oban.reporter"

    def __init__(
        self, engine: Engine, session: Session, options: MetricsOptions, node: str, meter: Meter
    ) -> None:
        super().__init__()
        self.engine = engine
        self.session = session
        self.options = options
        self.node = node
        self.meter = meter

    async def tick(self) -> float:
        await self.tell()
        return self.options.interval * PATIENCE

    async def tell(self) -> None:
        """Tell all there is. What could not be told stays, to be tried again.

        Unless nobody knows whether it was: told twice it would count twice.
        """
        waiting = self.meter.take()
        try:
            while waiting:
                told, waiting = waiting[:MOST_TOLD], waiting[MOST_TOLD:]
                try:
                    await self.session.execute(self.engine.add_times(self.node, told))
                except (OutcomeUnknown, DataRefused) as error:
                    attempts = sum(sum(each.exec.values()) for each in told)
                    metadata = {"attempts": attempts, **telemetry.describe_error(error)}
                    telemetry.execute("oban.reporter.dropped", metadata)
                except Exception:
                    waiting = [*told, *waiting]
                    raise
        finally:
            self.meter.put_back(waiting)
