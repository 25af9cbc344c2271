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

from oban.cli.terminal import one_line, output, relative
from oban.configuration import Configuration
from oban.engines.cron import LastSlot
from oban.errors import UnknownWorker
from oban.job import Job
from oban.lookup import WorkerFinder
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
    for periodic in sorted(
        entries_of(loaded.options.name, options.periodic)[0], key=lambda each: each.name
    ):
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

    all_runs = [runs(each) for each in entries_of(loaded.options.name, options.periodic)[0]]
    together = merge(*all_runs, key=lambda run: run[:2])
    return [(slot, periodic) for slot, _, periodic in islice(together, count)]


def local(moment: datetime | None, timezone: str) -> str:
    """`2026-03-02 09:00 Europe/Berlin (in 3h)`."""
    if moment is None:
        return ""
    return f"{moment.astimezone(ZoneInfo(timezone)):%Y-%m-%d %H:%M} ({relative(moment)})"


def lost(found: Sequence[Entry], finder: WorkerFinder) -> Iterator[str]:
    """What is wrong with entries whose worker cannot be found here."""
    for entry in found:
        try:
            finder.find(entry.periodic.worker)
        except UnknownWorker as error:
            yield f"cron entry {entry.periodic.name!r}: {error}"


def crontab_table(found: Sequence[Entry], *, with_last: bool) -> Table:
    """Everything where it fits, else the worker is left out where the name says it, and years.

    The entry is what gives way where even that is too wide.
    """
    wide = wide_table(found, with_last=with_last)
    console = output()
    needed = console.measure(wide, options=console.options.update(max_width=10_000)).maximum
    return wide if needed <= console.width else narrow_table(found, with_last=with_last)


def wide_table(found: Sequence[Entry], *, with_last: bool) -> Table:
    table = empty_table("entry", "worker", "expression", "zone", "next")
    if with_last:
        table.add_column("last", no_wrap=True)
    for each in found:
        cells: list[str | Text] = [
            one_line(each.periodic.name),
            one_line(each.periodic.worker),
            each.periodic.expr,
            each.timezone,
            next_text(each),
        ]
        table.add_row(*cells, *([last_text(each)] if with_last else []))
    return table


def narrow_table(found: Sequence[Entry], *, with_last: bool) -> Table:
    zones = {each.timezone for each in found}
    table = empty_table("entry", "expression", *(["zone"] if len(zones) > 1 else []))
    table.add_column("next" if len(zones) > 1 else f"next, {zones.pop()}", no_wrap=True)
    if with_last:
        table.add_column("last", no_wrap=True)
    for each in found:
        name, worker = each.periodic.name, each.periodic.worker
        cells: list[str | Text] = [
            one_line(worker if name.startswith(f"{worker} ") else name),
            each.periodic.expr,
            *([each.timezone] if len(table.columns) > 3 + with_last else []),
            next_text(each, short=True),
        ]
        table.add_row(*cells, *([last_text(each, short=True)] if with_last else []))
    return table


def empty_table(*names: str) -> Table:
    """Only entries and workers give way; the rest is short, and worth nothing when it is cut."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, no_wrap=name not in ("entry", "worker"), overflow="ellipsis")
    return table


def next_text(entry: Entry, *, short: bool = False) -> str:
    if entry.periodic.is_reboot:
        return "at a first start" if short else "when the first node starts"
    text = local(entry.next_at, entry.timezone)
    return text.partition("-")[2] if short else text


def last_text(entry: Entry, *, short: bool = False) -> str:
    if entry.last is None or entry.last.job_slot is None:
        return "never"
    state = entry.job.state if entry.job else "pruned"
    if short:
        return f"{relative(entry.last.job_slot)}, {state}"
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
