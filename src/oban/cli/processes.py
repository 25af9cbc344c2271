"""`oban start --processes N`: a parent that keeps several processes of a node running."""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import IO, Any, Final

from oban.cli.announcer import Announcer
from oban.cli.banner import banner
from oban.cli.failures import FAILED, INTERRUPTED, WrongUsage
from oban.cli.health import Health
from oban.cli.vitals import STARTING, Vitals, summed_up

#: Seconds after which a death is no longer counted with those before it.
STEADY: Final = 30.0
#: Seconds between two starts of one that keeps dying, at first and at most.
FIRST_WAIT: Final = 0.5
LONGEST_WAIT: Final = 30.0
#: Seconds between two looks at the children.
LOOK: Final = 0.5
MEBIBYTE: Final = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may reach before it is replaced: memory in MiB, and jobs."""

    memory: int | None = None
    jobs: int | None = None

    def passed(self, vitals: Vitals) -> str | None:
        if self.memory is not None and vitals["memory"] > self.memory * MEBIBYTE:
            return f"it occupies {vitals['memory'] // MEBIBYTE} MiB of {self.memory}"
        if self.jobs is not None and vitals.get("jobs", 0) >= self.jobs:
            return f"it has run {vitals['jobs']} jobs of {self.jobs}"
        return None


def process_count(text: str) -> int:
    """`auto` is one for each core that we may use."""
    if text == "auto":
        usable = getattr(os, "sched_getaffinity", None)
        return len(usable(0)) if usable else os.cpu_count() or 1
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise WrongUsage(f"--processes is {text!r}; it is a number from 1 to 1024, or auto")
    return int(text)


@dataclass(slots=True)
class Child:
    """One place for a process, whichever fills it at the time."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    reports: IO[bytes] | None = None
    rest: bytes = b""
    vitals: Vitals | None = None
    #: What it says when it is up, in place of telling it itself.
    first: Mapping[str, Any] = field(default_factory=dict)
    started_at: float = 0.0
    #: How often in a row it has died soon, and when it may start again.
    deaths: int = 0
    start_at: float = field(default=0.0)
    retiring: bool = False

    def read(self) -> None:
        """Take in what it tells; the newest counts."""
        assert self.reports is not None
        chunk = self.reports.read() or b""
        *lines, self.rest = (self.rest + chunk).split(b"\n")
        for line in lines:
            told = json.loads(line)
            if "first" in told:
                self.first = told["first"]
            else:
                self.vitals = told


class Parent:
    """Starts children again with a backoff, passes signals on, and replaces those past a limit."""

    def __init__(
        self, count: int, command: Sequence[str], limits: Limits, announcer: Announcer
    ) -> None:
        self.command = command
        self.limits = limits
        self.announcer = announcer
        self.children = [Child(number) for number in range(1, count + 1)]
        self.selector = selectors.DefaultSelector()
        self.stopping: signal.Signals | None = None
        #: Whether a SIGINT came after that, which means at once.
        self.hurried = False
        #: How those ended that were asked to stop.
        self.codes: list[int] = []
        self.health: Health | None = None
        self.announced = False

    def run(self, health: str | None) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.receive)
        if health is not None:
            self.health = Health(health)
            self.health.look = self.look
        while self.stopping is None or self.living():
            self.fill()
            for key, _ in self.selector.select(LOOK):
                key.data.read()
            code = self.bury()
            if code is not None:
                return code
            if self.stopping is None:
                self.announce()
                self.retire()
        code = self.exit_code()
        how = "have stopped" if code == 0 else "have ended; not every one stopped in order"
        self.announcer.tell("oban.parent.stop", f"all processes {how}", code=code)
        return code

    def exit_code(self) -> int:
        """What a single process would have ended with."""
        # One that had not begun to listen for signals died of ours.
        ended = {0 if code in (-signal.SIGTERM, -signal.SIGINT) else code for code in self.codes}
        if self.hurried and INTERRUPTED in ended:
            return INTERRUPTED
        return FAILED if ended - {0, INTERRUPTED} else 0

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """Pass it on. They are in sessions of their own: a terminal's Ctrl-C reaches only us."""
        self.hurried = self.hurried or (self.stopping is not None and number == signal.SIGINT)
        self.stopping = self.stopping or signal.Signals(number)
        for child in self.living():
            assert child.process is not None
            child.process.send_signal(number)

    def living(self) -> list[Child]:
        return [each for each in self.children if each.process is not None]

    def look(self) -> Vitals:
        return summed_up([each.vitals or STARTING for each in self.children])

    def fill(self) -> None:
        """Start what does not run and may."""
        now = time.monotonic()
        for child in self.children:
            if child.process is None and self.stopping is None and now >= child.start_at:
                self.start(child)

    def start(self, child: Child) -> None:
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)
        own = ["--parent", str(os.getpid()), "--report-to", str(write_end)]
        child.process = subprocess.Popen(  # noqa: S603  # ourselves, again
            [*self.command, *own], pass_fds=[write_end], start_new_session=True
        )
        os.close(write_end)
        child.reports = os.fdopen(read_end, "rb", buffering=0)
        child.rest, child.vitals, child.first, child.retiring = b"", None, {}, False
        child.started_at = time.monotonic()
        if self.stopping is not None:  # the signal came while it was being started
            child.process.send_signal(self.stopping)
        self.selector.register(child.reports, selectors.EVENT_READ, child)

    def bury(self) -> int | None:
        """Plan the return of those that have ended. The exit code when starting cannot succeed."""
        for child in self.living():
            assert child.process is not None
            code = child.process.poll()
            if code is None:
                continue
            ready, lived = child.vitals is not None, time.monotonic() - child.started_at
            self.forget(child)
            if self.stopping is not None:
                self.codes.append(code)
                continue
            if not ready and not self.announced:
                # The first start failed, for a reason that the child has told: it is no accident.
                self.end_all()
                return code if code > 0 else FAILED
            if not child.retiring:
                self.plan_return(child, code, lived)
        return None

    def plan_return(self, child: Child, code: int, lived: float) -> None:
        child.deaths = 1 if lived >= STEADY else child.deaths + 1
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (child.deaths - 1))
        child.start_at = time.monotonic() + wait
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
        self.announcer.warn(
            f"process {child.number} ended {how} after {lived:.0f} s; it starts again in {wait:g} s"
        )

    def forget(self, child: Child) -> None:
        assert child.reports is not None
        self.selector.unregister(child.reports)
        child.reports.close()
        child.process = child.vitals = None

    def end_all(self) -> None:
        for child in self.living():
            assert child.process is not None
            child.process.terminate()
        for child in self.living():
            assert child.process is not None
            child.process.wait()

    def announce(self) -> None:
        """Once all are up: what they are together."""
        if self.announced or any(each.vitals is None for each in self.children):
            return
        self.announced = True
        told = [each.vitals for each in self.children if each.vitals]
        facts = {**self.children[0].first["facts"], "pid": os.getpid()}
        if self.health is not None:
            facts["health"] = self.health.address
        slots = {
            queue: sum(each["queues"].get(queue, {"limit": 0})["limit"] for each in told)
            for queue in told[0]["queues"]
        }
        number = "1 process is" if len(told) == 1 else f"{len(told)} processes are"
        together = ", ".join(f"{queue} {limit}" for queue, limit in slots.items())
        self.announcer.tell(
            "oban.parent.start",
            banner(facts),
            f"{number} running; limits are per process, so together: {together}",
            **facts,
            processes=[each["pid"] for each in told],
            limits=slots,
        )
        for override in self.children[0].first["overrides"]:
            self.announcer.warn(override)

    def retire(self) -> None:
        """Replace one that is past a limit: one at a time, and it may finish what it runs."""
        if any(each.retiring for each in self.living()):
            return
        for child in self.living():
            assert child.process is not None
            if child.vitals and (reason := self.limits.passed(child.vitals)):
                self.announcer.tell(
                    "oban.parent.recycle",
                    f"process {child.number} is replaced: {reason}",
                    pid=child.process.pid,
                    reason=reason,
                )
                child.retiring = True
                child.process.terminate()
                return


def own_command() -> list[str]:
    """What starts one child: our own arguments without those that are the parent's."""
    arguments, skip = [], False
    for each in sys.argv[1:]:
        name, _, value = each.partition("=")
        if skip or name in PARENTS_OWN:
            skip = not skip and not value
            continue
        arguments.append(each)
    return [sys.executable, "-m", "oban", *arguments]


PARENTS_OWN: Final = frozenset({"--processes", "--health-port", "--max-memory"})
