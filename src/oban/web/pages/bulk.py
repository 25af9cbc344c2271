"""One action on many jobs: those that were selected, or all that a search finds."""

import json
from collections.abc import AsyncIterator
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from oban.engines.values import JobSearch
from oban.errors import ObanError, TooSlow
from oban.web.access import User
from oban.web.acting import ACTIONS, Action
from oban.web.dashboard import Dashboard, dashboard_of
from oban.web.query import parse

#: Ids in one statement.
BATCH: Final = 1_000
#: Jobs that may be selected one by one.
MOST_SELECTED: Final = 1_000
#: A count goes so far.
MOST_COUNTED: Final = 1_000_000


async def count(request: Request) -> Response:
    """How many jobs an action on all that match would be for."""
    dashboard = dashboard_of(request)
    search = searched(dashboard, request.query_params)
    engine = dashboard.oban.engine
    try:
        found = await dashboard.read(engine.count_matching(search, MOST_COUNTED + 1))
    except TooSlow:
        return JSONResponse({"count": None, "is_more": True})
    return JSONResponse({"count": min(found, MOST_COUNTED), "is_more": found > MOST_COUNTED})


async def act(request: Request) -> Response:
    """Answers with a line of JSON for each step, so that a page can show how far it is."""
    dashboard = dashboard_of(request)
    name = request.path_params["action"]
    if name not in ACTIONS:
        raise HTTPException(404, f"there is no action {name!r:.40}")
    action = ACTIONS[name]
    user = dashboard.require(request, action.role)
    try:
        given: Any = await request.json()
    except ValueError:
        given = None
    match given:
        case {"ids": [*ids]} if ids and len(ids) <= MOST_SELECTED and all(map(is_id, ids)):
            done = await action.act(dashboard.oban, ids)
            dashboard.tell(user, name, ids=ids, count=done)
            return JSONResponse({"done": done, "of": len(ids), "is_over": True, "was": action.done})
        case {"q": str(), "state": str() | None}:
            search = searched(dashboard, given)
            steps = act_on_all(dashboard, user, name, action, search)
            return StreamingResponse(steps, media_type="application/x-ndjson")
    raise HTTPException(
        400, f"give ids, a list of up to {MOST_SELECTED} of them, or q and state of a search"
    )


def is_id(given: object) -> bool:
    return isinstance(given, int) and not isinstance(given, bool) and 0 < given < 2**63


def searched(dashboard: Dashboard, given: Any) -> JobSearch:
    """Raises HTTPException where a word of the search means nothing: it might find too much."""
    query = parse(given.get("q") or "", given.get("state") or None)
    if (given.get("state") or None) != query.search.state:
        raise HTTPException(400, f"there is no state {given.get('state')!r:.40}")
    if query.errors:
        raise HTTPException(400, "; ".join(query.errors))
    if any(dashboard.redact.intersection(path.keys) for path in query.search.paths):
        raise HTTPException(400, "what is not shown is not searched")
    return query.search


async def act_on_all(
    dashboard: Dashboard, user: User, name: str, action: Action, search: JobSearch
) -> AsyncIterator[bytes]:
    """Go through the pages of the search, in batches of a transaction each.

    Whoever stops listening stops it: what was done stays done, and is told.
    """
    engine = dashboard.oban.engine
    done = seen = 0
    cursor = None
    error: str | None = None
    try:
        while True:
            ids, cursor = await dashboard.read(engine.browse_ids(search, BATCH, cursor))
            if ids:
                done += await action.act(dashboard.oban, ids)
                seen += len(ids)
            if cursor is None:
                break
            yield line(done=done, of=seen, is_over=False, was=action.done)
    except ObanError as failure:
        error = str(failure)
    finally:
        found = {"queue": search.queue, "state": search.state, "worker": search.worker}
        dashboard.tell(user, name, search=found, count=done)
    yield line(done=done, of=seen, is_over=True, was=action.done, error=error)


def line(**told: object) -> bytes:
    return json.dumps(told).encode() + b"\n"


routes: Final = [
    Route("/count", count),
    Route("/bulk/{action}", act, methods=["POST"]),
]
