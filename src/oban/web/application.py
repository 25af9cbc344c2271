"""The dashboard as an ASGI application."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from oban.errors import InvalidJob, InvalidOption, ObanError
from oban.oban import Oban
from oban.web.access import Auth, only_here
from oban.web.dashboard import Dashboard
from oban.web.guard import Guard
from oban.web.live import live
from oban.web.looks import STATIC, version
from oban.web.pages import bulk, cron, exports, job, jobs, metrics, nodes, queues


def app(
    oban: Oban | str,
    *,
    auth: Auth | None = None,
    read_only: bool = False,
    redact: Collection[str] = (),
    refresh: float = 2.0,
) -> Starlette:
    """The dashboard of an Oban, or of the database that a DSN names, to be mounted or served.

    `auth` is asked who sends a request: `BasicAuth`, or a function of the request, async or not,
    that returns a `User`, the name of a role, or None for nobody. Without it nobody may look but
    who sits at this machine. With `read_only` nobody changes anything. Values in args, meta and
    recorded output under a key in `redact` are not shown. `refresh` is how many seconds lie between
    two looks of a page, unless its reader has chosen otherwise.
    """
    client = Oban(pool=oban) if isinstance(oban, str) else oban
    dashboard = Dashboard(client, read_only=read_only, redact=redact, refresh=refresh)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await dashboard.close()
            if isinstance(oban, str):
                await client.stop()

    made = Starlette(
        routes=[
            *jobs.routes,
            *bulk.routes,
            *job.routes,
            *queues.routes,
            *cron.routes,
            *nodes.routes,
            *metrics.routes,
            *exports.routes,
            Route("/live", live),
            Mount("/static", Static(directory=STATIC), name="static"),
        ],
        middleware=[Middleware(Guard, auth=auth or only_here)],
        exception_handlers={
            HTTPException: failed,
            InvalidJob: failed,
            InvalidOption: failed,
            ObanError: failed,
        },
        lifespan=lifespan,
    )
    made.state.dashboard = dashboard
    return made


class Static(StaticFiles):
    """Files that a browser keeps: their address tells their version, and changes with it."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        asked = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        is_this = asked.get("v") == [version()]
        kept = "private, max-age=31536000, immutable" if is_this else "private, no-cache"
        response.headers["cache-control"] = kept
        return response


async def failed(request: Request, error: Exception) -> Response:
    """A page, or a note on the page that is open, with what went wrong."""
    if isinstance(error, HTTPException):
        status, told = error.status_code, str(error.detail)
    else:
        status = 400 if isinstance(error, ValueError) else 503
        told = str(error)
    dashboard: Dashboard = request.app.state.dashboard
    if "hx-request" in request.headers or request.method != "GET":
        return dashboard.note(request, told, kind="error", status=status)
    return dashboard.page(request, "error.html", status=status, title=f"{status}", told=told)
