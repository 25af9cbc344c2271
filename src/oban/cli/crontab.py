"""The crontab of an application: its entries, when they run next, and when they ran."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import merge
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from rich.table import Table
from rich.text import Text

from oban.cli.terminal import printable, relative
from oban.configuration import Configuration
from oban.engines.values import LastSlot
from oban.job import Job
from oban.periodic import Periodic
from oban.running.scheduler import entries_of


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry, and what the database knows of it."""

    periodic: Periodic
    timezone: str
    next_at: datetime | None
    last: LastSlot | None = None
    #: Its last job, None when that is gone or there was none.
    job: Job | None = None


def entries(
    loaded: Configuration, slots: Sequence[LastSlot] = (), jobs: Sequence[Job] = ()
) -> list[Entry]:
    options = loaded.options.scheduler
    now = datetime.now(UTC)
    known = {slot.entry: slot for slot in slots}
    by_id = {job.id: job for job in jobs}
    found = []
    for periodic in sorted(entries_of(loaded.options.name, options)[0], key=lambda each: each.name):
        cron = periodic.cron(options.timezone)
        last = known.get(periodic.name)
        job = by_id.get(last.job_id) if last and last.job_id else None
        found.append(Entry(periodic, cron.timezone, cron.next(now), last, job))
    return found


def coming(loaded: Configuration, count: int) -> list[tuple[datetime, Periodic]]:
    """The next runs of all entries together."""
    options = loaded.options.scheduler
    now = datetime.now(UTC)

    def runs(periodic: Periodic) -> Iterator[tuple[datetime, str, Periodic]]:
        cron = periodic.cron(options.timezone)
        slot = cron.next(now)
        while slot is not None:
            yield slot, periodic.name, periodic
            slot = cron.next(slot)

    all_runs = [runs(each) for each in entries_of(loaded.options.name, options)[0]]
    together = merge(*all_runs, key=lambda run: run[:2])
    return [(slot, periodic) for slot, _, periodic in islice(together, count)]


def local(moment: datetime | None, timezone: str) -> str:
    """`2026-03-02 09:00 Europe/Berlin (in 3h)`."""
    if moment is None:
        return ""
    return f"{moment.astimezone(ZoneInfo(timezone)):%Y-%m-%d %H:%M} ({relative(moment)})"


def crontab_table(found: Sequence[Entry], *, with_last: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("entry", "worker", "expression", "zone", "next"):
        table.add_column(name, overflow="fold")
    if with_last:
        table.add_column("last", overflow="fold")
    for each in found:
        reboot = "when the first node starts" if each.periodic.is_reboot else ""
        cells: list[Text | str] = [
            Text(printable(each.periodic.name)),
            Text(printable(each.periodic.worker)),
            Text(each.periodic.expr),
            Text(each.timezone),
            reboot or local(each.next_at, each.timezone),
        ]
        table.add_row(*cells, *([last_text(each)] if with_last else []))
    return table


def last_text(entry: Entry) -> str:
    if entry.last is None or entry.last.job_slot is None:
        return "never"
    state = entry.job.state if entry.job else "pruned"
    return f"{local(entry.last.job_slot, entry.timezone)}, job {entry.last.job_id} {state}"


def document(entry: Entry) -> dict[str, Any]:
    periodic = entry.periodic
    return {
        "name": periodic.name,
        "worker": periodic.worker,
        "expr": periodic.expr,
        "timezone": entry.timezone,
        "args": dict(periodic.args),
        "catch_up": periodic.catch_up,
        "window": periodic.window,
        "overlap": periodic.overlap,
        "next_at": entry.next_at,
        "last_at": entry.last.job_slot if entry.last else None,
        "last_job_id": entry.last.job_id if entry.last else None,
        "last_job_state": str(entry.job.state) if entry.job else None,
    }
