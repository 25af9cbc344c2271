"""What was commanded of the queues, brought about on this node."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Final

from oban import telemetry
from oban.engines.commands import EVERY, Aspect, Commandable, Intent
from oban.engines.signals import ForeignCommand
from oban.errors import InvalidOption
from oban.options import QueueOptions, RateLimitOptions
from oban.part import parse
from oban.running.queues import Queues

#: A queue is started with the limits it shall have, so those come first.
ASPECTS: Final[tuple[Aspect, ...]] = ("limit", "global_limit", "rate_limit", "paused", "running")


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

    def wanted(self, queue: str, aspect: Aspect) -> Commandable | None:
        """What is commanded, or else configured; None is no limit."""
        if intent := self.applied.get((queue, aspect)):
            return intent.value
        if aspect == "running":
            return queue in self.configured
        options = self.configured.get(queue, QueueOptions())
        match aspect:
            case "limit":
                return options.limit
            case "global_limit":
                return options.global_limit
            case "rate_limit":
                return None if options.rate_limit is None else asdict(options.rate_limit)
            case "paused":
                return options.paused

    def apply(self, queue: str, aspect: Aspect, value: Commandable | None) -> None:
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
                self.scale(queue, whole(value))
            case "global_limit" | "rate_limit":
                self.limit(queue)
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

    def limit(self, queue: str) -> None:
        if producer := self.queues.active.get(queue):
            producer.limit(self.options(queue).limits)

    def options(self, queue: str) -> QueueOptions:
        """As configured, but for what is commanded."""
        most, rate = self.wanted(queue, "global_limit"), self.wanted(queue, "rate_limit")
        return replace(
            self.configured.get(queue, QueueOptions()),
            limit=whole(self.wanted(queue, "limit")),
            global_limit=None if most is None else whole(most),
            rate_limit=rate if rate is None else parse(RateLimitOptions, "rate_limit.", rate),
            paused=bool(self.wanted(queue, "paused")),
        )

    def pause(self, queue: str, *, paused: bool) -> None:
        if producer := self.queues.active.get(queue):
            producer.pause(paused)

    def start(self, queue: str, limit: int | None = None, *, paused: bool | None = None) -> None:
        if queue in self.queues.active:
            return
        options = self.options(queue)
        self.queues.start(
            queue,
            replace(
                options,
                limit=options.limit if limit is None else limit,
                paused=options.paused if paused is None else paused,
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
    match intent.aspect:
        case "limit" | "global_limit":
            usable: object = is_count(intent.value)
        case "rate_limit":
            usable = isinstance(intent.value, Mapping) and is_rate(intent.value)
        case _:
            usable = isinstance(intent.value, bool)
    return bool(usable)


def is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_rate(value: Mapping[str, object]) -> bool:
    try:
        parse(RateLimitOptions, "rate_limit.", value)
    except InvalidOption:
        return False
    return True


def whole(value: Commandable | None) -> int:
    assert isinstance(value, int), "a limit that was checked"
    return int(value)
