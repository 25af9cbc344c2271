"""Cron: what the calendar enqueues, when it did last and will next, and how that ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

import cron_descriptor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from oban.cron.expression import NICKNAMES
from oban.engines.cron import LastSlot
from oban.fields import clean_text
from oban.job import Job
from oban.looking.moments import times
from oban.periodic import Periodic, cron_of
from oban.running.scheduler import build, entries_of
from oban.web.access import Role
from oban.web.dashboard import Dashboard, dashboard_of

UNTOLD: Final = (
    cron_descriptor.FormatException,
    cron_descriptor.WrongArgumentException,
    cron_descriptor.MissingFieldException,
)
WORDING: Final = cron_descriptor.Options()
WORDING.use_24hour_time_format = True
#: Runs of an entry that are shown, and jobs among which they are looked for: in 30 ms.
RUNS: Final = 24
LOOKED_AT: Final = 100_000


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    #: What this process knows of it, None for one that only other nodes have.
    periodic: Periodic | None
    worker: str
    expr: str
    timezone: str
    next_at: datetime | None
    last: LastSlot | None
    #: Its last jobs, the oldest first.
    runs: Sequence[Job]

    @property
    def is_paused(self) -> bool:
        return self.last is not None and self.last.paused_at is not None

    @property
    def words(self) -> str:
        """When it runs, in words; nothing where they are not found."""
        plain = NICKNAMES.get(self.expr.lower(), self.expr)
        try:
            return str(cron_descriptor.ExpressionDescriptor(plain, WORDING).get_description())
        except UNTOLD:
            return ""

    @property
    def is_reboot(self) -> bool:
        return self.expr == "@reboot"

    @property
    def local_next(self) -> str:
        if self.next_at is None:
            return ""
        return f"{self.next_at.astimezone(ZoneInfo(self.timezone)):%a %Y-%m-%d %H:%M}"


async def index(request: Request) -> Response:
    dashboard = dashboard_of(request)
    is_part = request.headers.get("hx-target") == "cron"
    return dashboard.page(
        request,
        "_cron.html" if is_part else "cron.html",
        title="Cron",
        entries=await entries(dashboard),
        times=times,
    )


async def entries(dashboard: Dashboard) -> list[Entry]:
    oban, engine = dashboard.oban, dashboard.oban.engine
    options = oban.options.scheduler
    slots = {each.entry: each for each in await dashboard.read(engine.last_slots(oban.name))}
    known = {each.name: each for each in entries_of(oban.name, options.periodic)[0]}
    names = sorted({*known, *slots})
    last = [each.job_id for each in slots.values() if each.job_id is not None]
    runs = await dashboard.read(engine.last_runs(names, last, RUNS, LOOKED_AT))
    return [
        entry_of(name, known.get(name), slots.get(name), runs.get(name, [])[::-1], options.timezone)
        for name in names
    ]


def entry_of(
    name: str, known: Periodic | None, last: LastSlot | None, runs: Sequence[Job], zone: str
) -> Entry:
    """What this process knows of it, or else what the leader has noted."""
    if known is not None:
        worker, expr, timezone = known.worker, known.expr, known.timezone or zone
    else:
        assert last is not None
        worker = runs[-1].worker if runs else name.partition(" ")[0]
        expr, timezone = last.expr, last.timezone
    try:
        next_at = cron_of(expr, timezone).next(datetime.now(UTC))
    except ValueError:  # noted by another version
        next_at = None
    return Entry(name, known, worker, expr, timezone, next_at, last, runs)


async def run(request: Request) -> Response:
    """Enqueue a job of the entry now, beside those of its slots."""
    dashboard = dashboard_of(request)
    user = dashboard.require(request, Role.OPERATE)
    name = request.path_params["entry"]
    options = dashboard.oban.options.scheduler
    known = {each.name: each for each in entries_of(dashboard.oban.name, options.periodic)[0]}
    if name not in known:
        raise HTTPException(
            404, f"this process cannot build jobs of {name!r:.80}: it has no worker"
        )
    job = build(known[name], datetime.now(UTC), options.timezone)
    inserted = await dashboard.oban.enqueue(job)
    dashboard.tell(user, "cron_run", entry=name, ids=[inserted.id], count=1)
    return dashboard.note(request, f"Job {inserted.id} of {name} is enqueued.")


async def pause(request: Request) -> Response:
    """Let its slots pass without a job, or no longer."""
    dashboard = dashboard_of(request)
    user = dashboard.require(request, Role.OPERATE)
    name, verb = request.path_params["entry"], request.path_params["verb"]
    if verb not in ("pause", "resume"):
        raise HTTPException(404, f"there is no command {verb!r:.40}")
    clean_text("entry", name)
    give = dashboard.oban.pause_cron if verb == "pause" else dashboard.oban.resume_cron
    if not await give(name):
        raise HTTPException(404, f"there is no entry {name!r:.80} yet: a leader notes each")
    dashboard.tell(user, f"cron_{verb}", entry=name)
    return dashboard.note(request, f"{name} {'is paused' if verb == 'pause' else 'goes on'}.")


routes: Final = [
    Route("/cron", index, name="cron"),
    Route("/cron/{entry:path}/run", run, methods=["POST"]),
    Route("/cron/{entry:path}/{verb}", pause, methods=["POST"]),
]
