"""Nodes: the processes that run queues, and which of them leads."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from oban.looking.processes import processes
from oban.web.dashboard import dashboard_of

#: Processes on the page, and queues of each.
MOST_PROCESSES: Final = 200
MOST_QUEUES: Final = 50


async def index(request: Request) -> Response:
    dashboard = dashboard_of(request)
    engine = dashboard.oban.engine
    known = await dashboard.read(engine.known_producers())
    is_part = request.headers.get("hx-target") == "nodes"
    return dashboard.page(
        request,
        "_nodes.html" if is_part else "nodes.html",
        title="Nodes",
        processes=processes(known),
        most_processes=MOST_PROCESSES,
        most_queues=MOST_QUEUES,
    )


routes: Final = [Route("/nodes", index, name="nodes")]
