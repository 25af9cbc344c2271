"""Nodes: the processes that run queues, and which of them leads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from oban.engines.values import KnownProducer
from oban.web.dashboard import dashboard_of


@dataclass(slots=True)
class Process:
    """A process of a node: the producers of its queues, as their last heartbeats told."""

    node: str
    name: str
    started_at: datetime | None
    producers: list[KnownProducer] = field(default_factory=list)

    @property
    def told(self) -> Mapping[str, Any]:
        return self.producers[0].meta

    @property
    def is_alive(self) -> bool:
        return any(each.alive for each in self.producers)

    @property
    def beat_age(self) -> float | None:
        return min(
            (each.beat_age for each in self.producers if each.beat_age is not None), default=None
        )

    @property
    def running(self) -> int:
        return sum(int(each.meta.get("running_count") or 0) for each in self.producers)

    @property
    def limit(self) -> int:
        return sum(int(each.meta.get("limit") or 0) for each in self.producers)


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
    )


def processes(known: list[KnownProducer]) -> list[Process]:
    """Producers by their process, which tells its number with each heartbeat."""
    found: dict[Any, Process] = {}
    for each in known:
        if each.beat_age is None and not each.running_count:
            continue
        identity = each.identity
        key = identity.node, identity.name, str(each.meta.get("pid", identity.uuid))
        process = found.setdefault(key, Process(identity.node, identity.name, each.started_at))
        process.producers.append(each)
    return sorted(found.values(), key=lambda each: (each.node, str(each.started_at)))


routes: Final = [Route("/nodes", index, name="nodes")]
