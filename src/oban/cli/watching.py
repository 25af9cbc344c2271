"""Who watches a node: an orchestrator at a port, a parent at the end of a pipe."""

import contextlib
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from oban import telemetry
from oban.cli.health import Health
from oban.cli.vitals import Observer

#: Seconds between two reports to a parent.
REPORT: Final = 1.0


@dataclass(frozen=True, slots=True)
class Watched:
    """How a node is watched."""

    health: Health | None = None
    report_to: int | None = None
    count_jobs: bool = False
    #: Where it serves the dashboard.
    web: str | None = None


class JobCount:
    """How many jobs have ended in this process."""

    def __init__(self) -> None:
        self.value = 0
        ended = ["oban.job.stop", "oban.job.exception"]
        telemetry.attach("oban.cli.jobs", ended, self.add)

    def add(self, _name: str, _metadata: telemetry.Metadata) -> None:
        self.value += 1


def watch(observer: Observer, watched: Watched, first: Mapping[str, object]) -> None:
    """Answer, or report, how the node is, from threads of their own.

    The parent is told `first` once: what a node says that has none.
    """
    if watched.health is None and watched.report_to is None:
        return
    observer.start()
    if watched.health is not None:
        watched.health.look = observer.look
    if watched.report_to is not None:
        jobs = JobCount() if watched.count_jobs else None
        arguments = (observer, watched.report_to, jobs, first)
        threading.Thread(target=report, args=arguments, name="oban report", daemon=True).start()


def report(
    observer: Observer, pipe: int, jobs: JobCount | None, first: Mapping[str, object]
) -> None:
    """Tell the parent, line by line, until it is gone."""
    with contextlib.suppress(OSError):
        os.write(pipe, json.dumps({"first": first}).encode() + b"\n")
        while True:
            ran = {} if jobs is None else {"jobs": jobs.value}
            os.write(pipe, json.dumps({**observer.look(), **ran}).encode() + b"\n")
            time.sleep(REPORT)
