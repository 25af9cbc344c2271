"""How a node is: what orchestrators ask, and what a parent sums up."""

import contextlib
import os
import threading
import time
from typing import Any, Final, TypeAlias

from oban.errors import ObanError
from oban.oban import Oban
from oban.running.process import memory

Vitals: TypeAlias = dict[str, Any]

#: Seconds between two looks at how long jobs wait.
SAMPLE: Final = 5.0


#: How a process is that cannot tell it yet. To restart it would not help.
STARTING: Final[Vitals] = {"status": "failing", "live": True, "starting": True}


class Observer:
    """Looks at a node from a thread of its own, which goes on while a worker blocks the loop."""

    def __init__(self, oban: Oban, schema_version: int) -> None:
        self.oban = oban
        self.schema_version = schema_version
        self.stopping = False
        #: Seconds that the oldest available job of each queue has waited.
        self.lag: dict[str, float] = {}

    def start(self) -> None:
        threading.Thread(target=self.sample, name="oban observer", daemon=True).start()

    def sample(self) -> None:
        while True:
            with contextlib.suppress(ObanError):  # while the database is away the last look stands
                engine = self.oban.engine
                self.lag = engine.execute_sync(engine.lags(list(self.oban.producers)))
            time.sleep(SAMPLE)

    def look(self) -> Vitals:
        """Whether the node does its work: from memory, so that asking costs nothing."""
        oban, node = self.oban, self.oban.running_node
        heart = None if node is None else node.heart
        beat_age, loop_lag = (None, None) if heart is None else (heart.beat_age(), heart.loop_lag())
        refresher = oban.options.refresher
        live = loop_lag is None or loop_lag < refresher.max_block
        beating = beat_age is not None and beat_age <= refresher.max_age
        return {
            "status": "ok" if live and beating and not self.stopping else "failing",
            "live": live,
            "stopping": self.stopping,
            "node": oban.node,
            "pid": os.getpid(),
            "leader": oban.is_leader,
            "beat_age": rounded(beat_age),
            "loop_lag": rounded(loop_lag),
            "signals": "listening" if oban.hearing is None else f"polling: {oban.hearing}",
            "schema_version": self.schema_version,
            "memory": memory(),
            "queues": {
                info.queue: {
                    "limit": info.limit,
                    "paused": info.paused,
                    "running": len(info.running),
                    "lag": rounded(self.lag.get(info.queue, 0.0)),
                }
                for info in oban.check_all_queues()
            },
        }


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def summed_up(processes: list[Vitals]) -> Vitals:
    """Of a node of several processes: it fails when all do."""
    fine = [each for each in processes if each["status"] == "ok"]
    all_fine = len(fine) == len(processes)
    return {
        "status": "ok" if processes and all_fine else "degraded" if fine else "failing",
        "live": True,  # a process that is not is ended, and started again
        "processes": processes,
    }
