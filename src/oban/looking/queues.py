"""Queues over all nodes: what each does, what waits in it, and what was commanded of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from oban.engines.commands import EVERY, Intent
from oban.phrases import span_text
from oban.running.producer import QueueInfo


@dataclass(slots=True)
class QueueRow:
    """A queue over all nodes."""

    name: str
    counts: Mapping[str, int] = field(default_factory=dict)
    #: What it does, by node.
    infos: list[QueueInfo] = field(default_factory=list)
    commands: list[Intent] = field(default_factory=list)
    #: Seconds that the oldest available job has waited.
    lag: float | None = None

    @property
    def living(self) -> list[QueueInfo]:
        return [each for each in self.infos if each.meta["alive"]]

    @property
    def running(self) -> int:
        return sum(len(each.running) for each in self.living)

    @property
    def limit(self) -> int:
        return sum(each.limit for each in self.living)

    @property
    def state(self) -> str:
        """In one word, what an operator should know."""
        if not self.infos:
            return "not run"
        if not self.living:
            return "silent"
        paused = sum(each.paused for each in self.living)
        return "paused" if paused == len(self.living) else "partly paused" if paused else "running"

    @property
    def limits(self) -> list[str]:
        """Those that hold over all nodes, as the nodes have told."""
        told = []
        for each in self.living[:1]:
            if limit := each.meta.get("global_limit"):
                told.append(f"{limit:,} at once on all nodes")
            if isinstance(rate := each.meta.get("rate_limit"), Mapping):
                told.append(f"{rate.get('allowed'):,} in {span_text(rate.get('period'))}")
        return told


def queue_rows(
    counts: Mapping[str, Mapping[str, int]],
    infos: Sequence[QueueInfo],
    commands: Sequence[Intent] = (),
) -> dict[str, QueueRow]:
    """By name, those that have jobs and those that somebody runs."""
    names = sorted({*counts, *(each.queue for each in infos)})
    found = {name: QueueRow(name, counts.get(name, {})) for name in names}
    for info in infos:
        found[info.queue].infos.append(info)
    for command in commands:
        if command.queue == EVERY:
            concerned = list(found.values())
        else:
            concerned = [found[command.queue]] if command.queue in found else []
        for row in concerned:
            row.commands.append(command)
    return found
