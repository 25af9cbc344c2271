"""The promise that a node which was told to stop is gone in time, whatever its code does."""

import os
import threading
import time
from typing import Final

from oban.cli.announcer import Announcer
from oban.cli.failures import FAILED
from oban.cli.signals import StopSignals
from oban.oban import Oban

#: Seconds past the grace period until the process is ended.
ALLOWANCE: Final = 0.8
#: Seconds before that at which the event loop must answer.
LOOK: Final = 0.6
#: Seconds that a living loop takes to answer at most.
ANSWER: Final = 0.1


class Watchdog:
    """Ends the process when stopping takes longer than the grace period.

    A worker that blocks the event loop blocks the stop as well. Then the jobs of the node are given
    back from here, since their code ends with the process.
    """

    def __init__(self, oban: Oban, signals: StopSignals, announcer: Announcer) -> None:
        self.oban = oban
        self.signals = signals
        self.announcer = announcer
        #: What the process ends with; 0 once every job is finished or given back.
        self.code = FAILED
        threading.Thread(target=self.watch, name="oban watchdog", daemon=True).start()

    def watch(self) -> None:
        self.signals.told.wait()
        deadline = time.monotonic() + self.oban.options.shutdown_grace_period + ALLOWANCE
        time.sleep(max(0.0, deadline - LOOK - time.monotonic()))
        if not self.loop_answers():
            giving_back = threading.Thread(target=self.give_back, daemon=True)
            giving_back.start()
            giving_back.join(max(0.0, deadline - time.monotonic()))
        else:
            time.sleep(max(0.0, deadline - time.monotonic()))
        os._exit(self.code)

    def loop_answers(self) -> bool:
        answered = threading.Event()
        assert self.signals.loop is not None
        self.signals.loop.call_soon_threadsafe(answered.set)
        return answered.wait(ANSWER)

    def give_back(self) -> None:
        self.announcer.warn("a worker blocks the event loop; its jobs are given back as they are")
        for producer in list(self.oban.producers.values()):
            engine, identity = self.oban.engine, producer.identity
            engine.execute_sync(engine.give_back(identity))
            engine.execute_sync(engine.forget([identity.uuid]))
        self.code = 0
