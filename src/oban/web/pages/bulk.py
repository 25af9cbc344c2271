"""One action on many jobs: those that were selected, or all that a search finds."""

import json
from collections.abc import AsyncIterator
from dataclasses import fields, replace
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from oban.engines.browsing import JobSearch
from oban.errors import ObanError, TooSlow
from oban.web.access import User
from oban.web.acting import ACTIONS, Action
from oban.web.dashboard import HIDDEN, Dashboard, dashboard_of
from oban.web.given import body_of, is_id, json_of
from oban.web.query import parse

#: Ids in one statement.
BATCH: Final = 1_000
#: Jobs that may be selected one by one.
MOST_SELECTED: Final = 1_000
#: A count goes so far.
MOST_COUNTED: Final = 1_000_000


async def count(request: Request) -> Response:
    """How many jobs an action on all that match would be for, and up to which id they are."""
    dashboard = dashboard_of(request)
    engine = dashboard.oban.engine
    search = searched(dashboard, request.query_params)
    up_to = await dashboard.read(engine.newest_id())
    counting = engine.count_matching(replace(search, up_to=up_to), MOST_COUNTED + 1)
    try:
        found = await dashboard.read(counting)
    except TooSlow:
        return JSONResponse({"count": None, "is_more": True, "up_to": up_to})
    count, is_more = min(found, MOST_COUNTED), found > MOST_COUNTED
    return JSONResponse({"count": count, "is_more": is_more, "up_to": up_to})


async def act(request: Request) -> Response:
    """Answers with a line of JSON for each step, so that a page can show how far it is."""
    dashboard = dashboard_of(request)
    name = request.path_params["action"]
    if name not in ACTIONS:
        raise HTTPException(404, f"there is no action {name!r:.40}")
    action = ACTIONS[name]
    user = dashboard.require(request, action.role)
    try:
        given = json_of(await body_of(request))
    except ValueError:
        given = None
    match given:
        case {"ids": [*ids]} if ids and len(ids) <= MOST_SELECTED and all(map(is_id, ids)):
            done = await action.act(dashboard.oban, ids)
            dashboard.tell(user, name, ids=ids, count=done)
            return JSONResponse({"done": done, "of": len(ids), "is_over": True, "was": action.done})
        case {"q": str(), "state": str() | None}:
            up_to = given.get("up_to")
            if up_to is None:
                up_to = await dashboard.read(dashboard.oban.engine.newest_id())
            elif up_to != 0 and not is_id(up_to):
                raise HTTPException(400, f"up_to is {up_to!r:.40}; it is what a count has told")
            search = replace(searched(dashboard, given), up_to=up_to)
            steps = act_on_all(dashboard, user, name, action, search)
            return StreamingResponse(steps, media_type="application/x-ndjson")
    raise HTTPException(
        400, f"give ids, a list of up to {MOST_SELECTED} of them, or q and state of a search"
    )


def searched(dashboard: Dashboard, given: Any) -> JobSearch:
    """Raises HTTPException where a word of the search means nothing: it might find too much."""
    query = parse(given.get("q") or "", given.get("state") or None)
    if (given.get("state") or None) != query.search.state:
        raise HTTPException(400, f"there is no state {given.get('state')!r:.40}")
    if query.errors:
        raise HTTPException(400, "; ".join(query.errors))
    if any(map(dashboard.hides, query.search.paths)):
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
        dashboard.tell(user, name, search=told_search(dashboard, search), count=done)
    yield line(done=done, of=seen, is_over=True, was=action.done, error=error)


def told_search(dashboard: Dashboard, search: JobSearch) -> dict[str, Any]:
    """All that a search asks for, by name; not the values of what is not shown."""
    told = {
        field.name: value
        for field in fields(search)
        if field.name not in ("paths", "since", "up_to")
        and (value := getattr(search, field.name)) not in (None, ())
    }
    for path in search.paths:
        told[".".join((path.field, *path.keys))] = HIDDEN if dashboard.hides(path) else path.text
    if search.since is not None:
        told["since"] = search.since.isoformat()
    return {"state": search.state, **told, "up_to": search.up_to}


def line(**told: object) -> bytes:
    return json.dumps(told).encode() + b"\n"


routes: Final = [
    Route("/count", count),
    Route("/bulk/{action}", act, methods=["POST"]),
]
