"""What programs read: the queues for Prometheus, and for who adds and takes away nodes."""

import asyncio
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from oban.errors import InvalidOption
from oban.integrations.autoscaling import WITHIN, document
from oban.integrations.figures import MOST_QUEUES
from oban.web.dashboard import dashboard_of


async def prometheus(request: Request) -> Response:
    """What the database says of the queues, and what this process counts, if it does."""
    from oban.integrations.prometheus import DatabaseCollector
    from oban.integrations.prometheus.exposing import counted, exposed

    dashboard = dashboard_of(request)
    collectors = [*counted(), DatabaseCollector(dashboard.oban, dashboard.watch)]
    accepted = request.headers.get("accept", "")
    body, content_type = await asyncio.to_thread(exposed, collectors, accepted)
    return Response(body, media_type=content_type)


async def autoscale(request: Request) -> Response:
    """A forecast for each queue. Where none can be made it is an error, which scales nothing."""
    text = request.query_params.get("within", f"{WITHIN:g}")
    try:
        within = float(text)
    except ValueError:
        raise InvalidOption(f"within is {text!r:.40}; it is 1 to 86400 seconds") from None
    watch = dashboard_of(request).watch
    figures = await asyncio.to_thread(watch.look)
    if figures is None:
        reason = watch.error or "the database has not answered yet"
        return JSONResponse({"error": reason}, 503)
    asked = request.query_params.getlist("queue")[:MOST_QUEUES]
    return JSONResponse(document(figures, within, asked))


routes: Final = [
    Route("/prometheus", prometheus),
    Route("/autoscale", autoscale),
]
