"""What a scrape is answered with, and an ASGI application that answers it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from oban.client import Client
from oban.integrations.prometheus.collecting import DatabaseCollector
from oban.integrations.prometheus.counting import ATTACHED

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


class Together(Collector):
    """Several collectors as one."""

    def __init__(self, collectors: Sequence[Collector]) -> None:
        self.collectors = collectors

    def collect(self) -> Iterator[Metric]:
        for each in self.collectors:
            yield from each.collect()


def counted() -> list[Collector]:
    """What this process counts, if it does."""
    return [counting for _, counting in ATTACHED]


def exposed(collectors: Sequence[Collector], accepted: str) -> tuple[bytes, str]:
    """The numbers in the format that is asked for, and its name. May wait for the database."""
    try:
        encode, content_type = choose_encoder(accepted)
    except Exception:  # noqa: BLE001  # anybody may ask for anything, and its parser is not ours
        encode, content_type = choose_encoder("")
    return encode(Together(collectors)), content_type


def app(oban: Client | None = None, *, registry: CollectorRegistry | None = None) -> Application:
    """An ASGI application that answers a scrape with what is counted in this process.

    With an Oban, also with what the database says. With a `registry`, with all that it holds
    instead of only what is counted of jobs. Whoever can reach it can read it.
    """
    database: list[Collector] = [] if oban is None else [DatabaseCollector(oban)]

    async def answer(
        scope: Message,
        receive: Callable[[], Awaitable[Message]],  # noqa: ARG001  # ASGI's
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        own: list[Collector] = counted() if registry is None else [registry]
        accepted = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
        body, content_type = await asyncio.to_thread(exposed, [*own, *database], accepted)
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        is_head = scope["method"] == "HEAD"
        await send({"type": "http.response.body", "body": b"" if is_head else body})

    return answer
