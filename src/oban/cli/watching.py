"""Who watches a node: an orchestrator at a port, a parent at the end of a pipe."""

import contextlib
import json
import os
import threading
import time
from dataclasses import dataclass
from typing import Final

from oban import telemetry
from oban.cli.health import serve_health
from oban.cli.vitals import Observer

#: Seconds between two reports to a parent.
REPORT: Final = 1.0


@dataclass(frozen=True, slots=True)
class Watched:
    """How a node is watched."""

    health_port: str | None = None
    report_to: int | None = None
    count_jobs: bool = False


class JobCount:
    """How many jobs have ended in this process."""

    def __init__(self) -> None:
        self.value = 0
        ended = ["oban.job.stop", "oban.job.exception"]
        telemetry.attach("oban.cli.jobs", ended, self.add)

    def add(self, _name: str, _metadata: telemetry.Metadata) -> None:
        self.value += 1


def watch(observer: Observer, watched: Watched) -> None:
    """Answer, or report, how the node is, from threads of their own."""
    if watched.health_port is None and watched.report_to is None:
        return
    observer.start()
    if watched.health_port is not None:
        serve_health(watched.health_port, observer.look)
    if watched.report_to is not None:
        jobs = JobCount() if watched.count_jobs else None
        arguments = (observer, watched.report_to, jobs)
        threading.Thread(target=report, args=arguments, name="oban report", daemon=True).start()


def report(observer: Observer, pipe: int, jobs: JobCount | None) -> None:
    """Tell the parent, line by line, until it is gone."""
    with contextlib.suppress(OSError):
        while True:
            ran = {} if jobs is None else {"jobs": jobs.value}
            os.write(pipe, json.dumps({**observer.look(), **ran}).encode() + b"\n")
            time.sleep(REPORT)
