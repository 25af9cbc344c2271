"""Queues: what each does on each node, what was commanded of it, and the limits they share."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from oban.engines.commands import Intent
from oban.errors import InvalidOption
from oban.fields import clean_text
from oban.looking.queues import QueueRow, queue_rows
from oban.oban import Oban
from oban.queue_control import queue_infos
from oban.running.control import ASPECTS, newest
from oban.running.producer import QueueInfo
from oban.web.access import Role
from oban.web.dashboard import Dashboard, dashboard_of
from oban.web.given import form_of
from oban.web.pages.metrics import paces

#: Queues on a page, nodes of one of them, and limits that queues share.
SIZE: Final = 50
MOST_NODES: Final = 20
MOST_LIMITS: Final = 200


async def index(request: Request) -> Response:
    """A page of the queues with a piece of text in their name, or only its list."""
    dashboard = dashboard_of(request)
    q = request.query_params.get("q", "").strip()[:200]
    every = await rows(dashboard)
    found = [row for row in every if q.lower() in row.name.lower()]
    last = max(0, (len(found) - 1) // SIZE)
    page = min(last, page_of(request.query_params.get("page", "")))
    shown = found[page * SIZE : (page + 1) * SIZE]
    engine = dashboard.oban.engine
    lags = await dashboard.read(engine.lags([row.name for row in shown]))
    for row in shown:
        row.lag = lags.get(row.name)
    is_part = request.headers.get("hx-target") == "queues"
    return dashboard.page(
        request,
        "_queues.html" if is_part else "queues.html",
        title="Queues",
        q=q,
        queues=shown,
        found_count=len(found),
        all_count=len(every),
        first=page * SIZE + 1,
        page=page,
        last=last,
        most_nodes=MOST_NODES,
        limits=(await dashboard.read(engine.shared_limits()))[:MOST_LIMITS],
        differs=differs,
        paces=await paces(dashboard),
    )


def page_of(text: str) -> int:
    """Which page is asked for, from zero; what is no number is the first."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else 0


async def rows(dashboard: Dashboard) -> list[QueueRow]:
    oban, engine = dashboard.oban, dashboard.oban.engine
    census = await dashboard.census.look()
    infos = queue_infos(await dashboard.read(engine.known_producers()))
    commands = await dashboard.read(engine.intents(oban.name))
    return list(queue_rows(census.queues, infos, commands).values())


def differs(info: QueueInfo, commands: Sequence[Intent]) -> list[str]:
    """What of it was commanded, and it does not do yet."""
    has = {"limit": info.limit, "paused": info.paused}
    told = []
    for aspect in ASPECTS:
        command = newest(commands, info.queue, info.node, aspect)
        if command is not None and aspect in has and has[aspect] != command.value:
            told.append(f"{aspect} is to be {command.value}")
    return told


@dataclass(frozen=True, slots=True)
class Command:
    role: Role
    told: str
    #: Commands it of a queue, on a node or on all, with what a form says.
    give: Callable[[Oban, str, str | None, Mapping[str, str]], Awaitable[Any]]


def number(fields: Mapping[str, str], name: str) -> int | None:
    text = fields.get(name, "").strip()
    if not text:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise InvalidOption(f"{name} is {text!r:.40}; it is a whole number")
    return int(text)


def rate(fields: Mapping[str, str]) -> dict[str, float] | None:
    allowed = number(fields, "allowed")
    if allowed is None:
        return None
    return {"allowed": allowed, "period": float(number(fields, "period") or 60)}


def scale(oban: Oban, queue: str, node: str | None, fields: Mapping[str, str]) -> Awaitable[None]:
    return oban.scale_queue(
        queue,
        number(fields, "limit"),
        global_limit=number(fields, "global_limit"),
        rate_limit=rate(fields),
        node=node,
    )


def start(oban: Oban, queue: str, node: str | None, fields: Mapping[str, str]) -> Awaitable[None]:
    return oban.start_queue(queue, number(fields, "limit"), node=node)


COMMANDS: Final[Mapping[str, Command]] = {
    "pause": Command(
        Role.OPERATE, "is paused", lambda oban, queue, node, _: oban.pause_queue(queue, node=node)
    ),
    "resume": Command(
        Role.OPERATE, "goes on", lambda oban, queue, node, _: oban.resume_queue(queue, node=node)
    ),
    "scale": Command(Role.OPERATE, "is scaled", scale),
    "start": Command(Role.ADMIN, "is to run", start),
    "stop": Command(
        Role.ADMIN, "is to stop", lambda oban, queue, node, _: oban.stop_queue(queue, node=node)
    ),
    "reset": Command(
        Role.ADMIN,
        "is again as it is configured",
        lambda oban, queue, node, _: oban.reset_queue(queue, node=node),
    ),
}


async def act(request: Request) -> Response:
    dashboard = dashboard_of(request)
    name, queue = request.path_params["command"], request.path_params["queue"]
    if name not in COMMANDS:
        raise HTTPException(404, f"there is no command {name!r:.40}")
    command = COMMANDS[name]
    user = dashboard.require(request, command.role)
    fields = await form_of(request)
    node = clean_text("node", fields.get("node", "")) or None
    await command.give(dashboard.oban, queue, node, fields)
    dashboard.tell(user, f"queue_{name}", queue=queue, node=node, fields=fields)
    where = f"on {node}" if node else "on all nodes"
    return dashboard.note(request, f"Queue {queue} {command.told} {where}.")


routes: Final = [
    Route("/queues", index, name="queues"),
    Route("/queues/{queue:path}/{command}", act, methods=["POST"]),
]
