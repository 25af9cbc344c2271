"""What was commanded of the queues, brought about on this node."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from oban import telemetry
from oban.engines.values import EVERY, Aspect, ForeignCommand, Intent
from oban.options import QueueOptions
from oban.running.queues import Queues

#: A queue is started with the limit it shall have, so that comes first.
ASPECTS: Final[tuple[Aspect, ...]] = ("limit", "paused", "running")


class Control:
    """Applies each stored command once, and what the configuration says where there is none.

    Commands from other packages act in memory: they hold until the next command of ours.
    """

    def __init__(
        self, name: str, node: str, configured: Mapping[str, QueueOptions], queues: Queues
    ) -> None:
        self.name = name
        self.node = node
        self.configured = configured
        self.queues = queues
        #: The commands that hold here, by what they are about.
        self.applied: dict[tuple[str, Aspect], Intent] = {}

    def hear(self, intents: Sequence[Intent]) -> bool:
        """Bring about what is newer than what was applied; take back what is over.

        Return whether there was any such.
        """
        changed = False
        named = {each.queue for each in intents if each.queue != EVERY}
        for queue in sorted({*self.configured, *self.queues.active, *named}):
            for aspect in ASPECTS:
                intent = newest(intents, queue, self.node, aspect)
                before = self.applied.get((queue, aspect))
                if (intent and intent.version) == (before and before.version):
                    continue
                self.note(queue, aspect, intent)
                self.apply(queue, aspect, self.wanted(queue, aspect))
                changed = True
        return changed

    def note(self, queue: str, aspect: Aspect, intent: Intent | None) -> None:
        if intent is None:
            del self.applied[queue, aspect]
        else:
            self.applied[queue, aspect] = intent

    def wanted(self, queue: str, aspect: Aspect) -> bool | int:
        """What is commanded, or else configured."""
        if intent := self.applied.get((queue, aspect)):
            return intent.value
        if aspect == "running":
            return queue in self.configured
        options = self.configured.get(queue, QueueOptions())
        return options.limit if aspect == "limit" else options.paused

    def apply(self, queue: str, aspect: Aspect, value: bool | int) -> None:
        intent = self.applied.get((queue, aspect))
        telemetry.execute(
            "oban.queue.control",
            {
                "queue": queue,
                "node": self.node,
                "aspect": aspect,
                "value": value,
                "commanded_at": intent and intent.set_at,
            },
        )
        match aspect:
            case "limit":
                self.scale(queue, int(value))
            case "paused":
                self.pause(queue, paused=bool(value))
            case "running" if value:
                self.start(queue)
            case "running":
                self.stop(queue)

    # What it comes to. A queue that does not run here has nothing to scale or pause.

    def scale(self, queue: str, limit: int) -> None:
        if producer := self.queues.active.get(queue):
            producer.scale(limit)

    def pause(self, queue: str, *, paused: bool) -> None:
        if producer := self.queues.active.get(queue):
            producer.pause(paused)

    def start(self, queue: str, limit: int | None = None, *, paused: bool | None = None) -> None:
        if queue in self.queues.active:
            return
        options = self.configured.get(queue, QueueOptions())
        self.queues.start(
            queue,
            replace(
                options,
                limit=int(self.wanted(queue, "limit")) if limit is None else limit,
                paused=bool(self.wanted(queue, "paused")) if paused is None else paused,
            ),
        )

    def stop(self, queue: str) -> None:
        if queue in self.queues.active:
            self.queues.stop(queue)

    # Commands of other packages

    def obey(self, command: ForeignCommand) -> None:
        """Do what a node of another package asks; start no queue that is none of ours."""
        if command.ident not in ("any", f"{self.name}.{self.node}"):
            return
        queues = list(self.queues.active) if command.queue == EVERY else [command.queue]
        for queue in queues:
            match command.action:
                case "pause":
                    self.pause(queue, paused=True)
                case "resume":
                    self.pause(queue, paused=False)
                case "scale" if command.limit:
                    self.scale(queue, command.limit)
                case "start" if queue in self.configured or (queue, "running") in self.applied:
                    self.start(queue, command.limit, paused=command.paused)
                case "stop":
                    self.stop(queue)


def newest(intents: Sequence[Intent], queue: str, node: str, aspect: Aspect) -> Intent | None:
    concerning = [
        each
        for each in intents
        if each.aspect == aspect and each.concerns(queue, node) and is_usable(each)
    ]
    return max(concerning, key=lambda each: each.version, default=None)


def is_usable(intent: Intent) -> bool:
    """Whether the value is one that we store. Anybody may write to a table."""
    if intent.aspect == "limit":
        return isinstance(intent.value, int) and intent.value > 0
    return isinstance(intent.value, bool)
