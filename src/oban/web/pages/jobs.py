"""Jobs: a page of those that a search finds, with how many there are in each state."""

import json
import re
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from oban.engines.browsing import Cursor, JobPage
from oban.looking.census import Census
from oban.looking.moments import times
from oban.states import JobState
from oban.web.dashboard import dashboard_of
from oban.web.given import is_id, json_of
from oban.web.looks import when
from oban.web.query import FIELDS, parse, quoted

STATES: Final = frozenset(map(str, JobState))
#: Jobs on a page.
SIZE: Final = 30
#: A moment as PostgreSQL writes it.
MOMENT: Final = re.compile(
    r"-?infinity|[0-9]{4,6}(-[0-9]{2}){2} ([0-9]{2}:){2}[0-9]{2}(\.[0-9]{1,6})?( BC)?"
)
#: What completion offers of one field.
MOST_OFFERED: Final = 200


async def home(request: Request) -> Response:
    return RedirectResponse(f"{request.scope.get('root_path', '')}/jobs")


async def index(request: Request) -> Response:
    """The whole page, or only its list where a page asks for that."""
    dashboard = dashboard_of(request)
    text = request.query_params.get("q", "")
    state = request.query_params.get("state") or None
    query = parse(text, state)
    census = await dashboard.census.look()
    hidden = [path for path in query.search.paths if dashboard.hides(path)]
    if hidden:
        query.errors.append(f"{hidden[0].keys[-1]} is not shown, and so not searched")
    cursor = read_cursor(request.query_params.get("after"))
    page = JobPage((), None, is_cut=False)
    if not hidden:
        page = await dashboard.read(dashboard.oban.engine.browse(query.search, SIZE, cursor))
    is_part = request.headers.get("hx-target") == "found"
    return dashboard.page(
        request,
        "_found.html" if is_part else "jobs.html",
        title="Jobs",
        q=text,
        state=query.search.state,
        errors=query.errors,
        jobs=page.jobs,
        is_cut=page.is_cut,
        after=write_cursor(page.next),
        here_after=write_cursor(cursor),
        is_first=cursor is None,
        census=census,
        sidebar=sidebar(census),
        fields=FIELDS,
        when=when,
        times=times,
        is_filtered=not query.search.is_plain or query.search.queue is not None,
    )


def sidebar(census: Census) -> list[tuple[str, int]]:
    """Each state with its count, and words that a newer package may have brought."""
    order = (
        JobState.EXECUTING,
        JobState.AVAILABLE,
        JobState.SCHEDULED,
        JobState.RETRYABLE,
        JobState.SUSPENDED,
        JobState.COMPLETED,
        JobState.CANCELLED,
        JobState.DISCARDED,
    )
    known = [(str(state), census.states.get(state, 0)) for state in order]
    return known + [each for each in census.states.items() if each[0] not in STATES]


async def complete(request: Request) -> Response:
    """What a word of the search may become, for the field that is typed."""
    dashboard = dashboard_of(request)
    census = await dashboard.census.look()
    offers = [f"{name}:" for name in FIELDS if name not in ("args", "meta")] + ["args.", "meta."]
    offers += [f"queue:{quoted(queue)}" for queue in census.queues]
    offers += [f"worker:{quoted(worker)}" for worker in census.workers]
    word = request.query_params.get("word", "")[:200].lower()
    found = [each for each in offers if word in each.lower()]
    return JSONResponse(found[:MOST_OFFERED])


def write_cursor(cursor: Cursor | None) -> str | None:
    return None if cursor is None else json.dumps(cursor, separators=(",", ":"))


def read_cursor(text: str | None) -> Cursor | None:
    """Where a page begins, from its address; what is none is the beginning."""
    try:
        match json_of(text or "null"):
            case [identity, (str() | None) as moment, (int() | None) as rank] if (
                is_id(identity)
                and (moment is None or MOMENT.fullmatch(moment))
                and (rank is None or -(2**31) <= rank < 2**31)
            ):
                return Cursor(identity, moment, rank)
    except ValueError:
        pass
    return None


routes: Final = [
    Route("/", home),
    Route("/jobs", index, name="jobs"),
    Route("/complete", complete),
]
