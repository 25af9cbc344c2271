"""The names of the NOTIFY channels and what their payloads say."""

import base64
import gzip
import json
import math
import zlib
from dataclasses import dataclass
from typing import Any, Final

from oban.engines.signals import (
    Commanded,
    Due,
    ForeignCommand,
    Inserted,
    Resigned,
    Signal,
    StackAsked,
    Stop,
    Undecodable,
    UniqueLost,
)

#: How many jobs of a queue a process may run at once, as in `QueueOptions`.
MAX_LIMIT: Final = 1_000_000
#: What a payload may grow to when inflated: a few bytes from anybody must not fill the memory.
MAX_INFLATED: Final = 1_000_000
NAMES: Final = ("insert", "signal", "leader", "due", "control")
PLAIN, MARKED, BARE = "{", "Z:", "H4sI"


@dataclass(frozen=True, slots=True)
class Channels:
    """The first three are shared with the other packages, the others are ours alone."""

    insert: str
    signal: str
    leader: str
    due: str
    control: str
    prefix: str

    @classmethod
    def of(cls, prefix: str) -> "Channels":
        return cls(prefix=prefix, **{name: f"{prefix}.oban_{name}" for name in NAMES})

    def outward(self, name: str) -> str:
        """A channel that others listen to, and we do not."""
        return f"{self.prefix}.oban_{name}"

    @property
    def all(self) -> tuple[str, ...]:
        return (self.insert, self.signal, self.leader, self.due, self.control)

    def read(self, channel: str, payload: str) -> Signal | None:
        """What a notification says; None when it is not for us."""
        try:
            message = decode(payload)
            if not isinstance(message, dict):
                raise TypeError(f"not a JSON object but {type(message).__name__}")
            return self.signal_of(channel, message)
        except Exception as error:  # noqa: BLE001  # anybody can send anything
            return Undecodable(channel, f"{type(error).__name__}: {error}", payload)

    def signal_of(self, channel: str, message: dict[str, Any]) -> Signal | None:
        if channel == self.insert:
            return Inserted(str(message["queue"]))
        if channel == self.due:
            at = float(message["at"])
            if not math.isfinite(at):
                raise ValueError(f"at is {at}")
            return Due(at)
        if channel == self.control and "probe" in message:
            return None
        if channel == self.control and "unique_lost" in message:
            return UniqueLost(int(message["unique_lost"]))
        if channel == self.control and "stack" in message:
            return StackAsked(int(message["stack"]))
        if channel == self.control:
            return Commanded(str(message["name"]), int(message.get("echo_count", 0)))
        action = message.get("action")
        if channel == self.leader:
            return Resigned(str(message["name"])) if action == "resign" else None
        if action == "pkill":
            return Stop(int(message["job_id"]))
        return command_of(action, message)


def command_of(action: object, message: dict[str, Any]) -> ForeignCommand | None:
    match action:
        case "pause" | "resume" | "start" | "stop" | "scale":
            limit, paused = message.get("limit"), message.get("paused")
            return ForeignCommand(
                action,
                str(message["queue"]),
                str(message.get("ident", "any")),
                limit=None if limit is None else usable_limit(limit),
                paused=None if paused is None else bool(paused),
            )
    return None


def usable_limit(given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MAX_LIMIT:
        raise ValueError(f"limit is {given!r:.40}; it is a whole number from 1 to {MAX_LIMIT}")
    return given


def decode(payload: str) -> Any:
    """Read JSON that is plain, marked `Z:` and compressed, or compressed without a mark."""
    if payload.startswith(MARKED):
        payload = inflate(payload[len(MARKED) :])
    elif payload.startswith(BARE):
        payload = inflate(payload)
    return json.loads(payload)


def inflate(encoded: str) -> str:
    binary = base64.b64decode(encoded, validate=True)
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    inflated = stream.decompress(binary, MAX_INFLATED)
    if stream.unconsumed_tail:
        raise ValueError(f"larger than {MAX_INFLATED} bytes when inflated")
    if not stream.eof:
        raise gzip.BadGzipFile("the compressed text is cut short")
    return inflated.decode("utf-8")
