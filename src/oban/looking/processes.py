"""Processes of nodes: the producers of their queues, put together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from oban.engines.nodes import KnownProducer


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
    def leads(self) -> bool:
        return self.is_alive and any(each.meta.get("leader") for each in self.producers)

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


def processes(known: Sequence[KnownProducer]) -> list[Process]:
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
