"""PostgreSQL's wire protocol, as far as a proxy follows it to know what was committed.

Nothing here touches a socket: bytes go in, bytes come out, and a `Session` says when to cut.
After "Frontend/Backend Protocol" in PostgreSQL's manual, protocol 3; the message names in the
comments are the manual's.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.faults.cut import Cut

MAX_BYTES = 256 * 2**20  # of one message, and of answers held back


class ProtocolError(Exception):
    """What was read is not the protocol this module knows."""


class Session:
    """Follow one connection and say what passes, what is held back and when it must end.

    Feed it what either side sent; then pass on and empty `to_server` and `to_client`, and end the
    connection once `cut` is set. Answers are held back while they may have to be swallowed: from a
    suspect statement to the end of its cycle, and through every later cycle of its transaction.
    A commit is certain when the server is ready outside a transaction; a cycle with an error or a
    rollback in it passes as if nothing had been armed.
    """

    def __init__(self, armed: Sequence[Cut]) -> None:
        self.to_server = bytearray()
        self.to_client = bytearray()
        self.cut: Cut | None = None
        self._armed = armed
        self._client = Framer(greets=True)
        self._server = Framer(greets=False)
        self._statements: dict[str, str] = {}
        self._portals: dict[str, str] = {}
        self._offered: dict[str, list[Cut]] = {}
        # The server answers the first of these while the client adds to the last.
        self._cycles = deque([Cycle()])
        self._in_transaction: list[Cut] = []
        self._held = bytearray()
        self._copying = False

    def from_client(self, chunk: bytes) -> None:
        for message in self._client.feed(chunk):
            if message.kind in ("ssl", "gss"):
                self.to_client += b"N"
                continue
            self._note_request(message)
            if self.cut:
                return
            self.to_server += message.raw

    def from_server(self, chunk: bytes) -> None:
        for message in self._server.feed(chunk):
            self._note_answer(message)
            if self.cut:
                return

    def _note_request(self, message: "Message") -> None:
        cycle = self._cycles[-1]
        match message.kind:
            case "startup" | "F":  # StartupMessage, FunctionCall
                self._cycles.append(Cycle())
            case "P":  # Parse
                name, sql = message.strings(2)
                self._statements[name] = sql
                self._offer(sql)
                self._offered[name] = list(self._armed)
            case "B":  # Bind
                portal, name = message.strings(2)
                self._portals[portal] = sql = self._statements.get(name, "")
                # What saw the Parse has seen this execution; later ones have only a Bind.
                self._offer(sql, unless=self._offered.pop(name, []))
            case "E":  # Execute
                (portal,) = message.strings(1)
                self._suspect(self._portals.get(portal, ""))
            case "Q":  # Query
                (sql,) = message.strings(1)
                self._offer(sql)
                self._suspect(sql)
                cycle.simple = True
                self._cycles.append(Cycle())
            case "S" if not self._copying:  # Sync
                self._cycles.append(Cycle())
            case "H":  # Flush: the client waits for answers although the cycle goes on
                cycle.awaited = True
                if cycle is self._cycles[0]:
                    self._release()
            case "c" | "f":  # CopyDone, CopyFail
                self._copying = False

    def _note_answer(self, message: "Message") -> None:
        cycle = self._cycles[0]
        match message.kind:
            case "C":  # CommandComplete
                (cycle.tag,) = message.strings(1)
                if cycle.awaited and cycle.tag == "COMMIT":
                    self._commit(self._in_transaction + cycle.suspects)
            case "E":  # ErrorResponse
                cycle.failed = True
                self._copying = False
                self._release()
            case "G" | "W":  # CopyInResponse, CopyBothResponse
                self._start_copy(cycle)
            case "Z":  # ReadyForQuery
                self._end_cycle(message)
                return
        suspicious = cycle.suspects or self._in_transaction
        held = suspicious and not (cycle.awaited or cycle.failed)
        (self._held if held else self.to_client).extend(message.raw)
        if len(self._held) > MAX_BYTES:
            raise ProtocolError(f"answers of more than {MAX_BYTES} bytes cannot be held back")

    def _end_cycle(self, ready: "Message") -> None:
        cycle = self._cycles.popleft()
        if not self._cycles:
            raise ProtocolError("the server answered more than it was asked")
        suspects = self._in_transaction + ([] if cycle.failed else cycle.suspects)
        idle = ready.raw[5:6] == b"I"
        self._in_transaction = [] if idle else suspects
        if idle and not cycle.failed and cycle.tag != "ROLLBACK":
            self._commit(suspects)
        if not self.cut:
            self._held += ready.raw
            self._release()

    def _start_copy(self, cycle: "Cycle") -> None:
        """Let the client send its rows; the server ignores a Sync that comes before their end."""
        cycle.awaited = True
        self._release()
        self._copying = True
        if not cycle.simple:
            self._cycles = deque([cycle])

    def _offer(self, sql: str, unless: Sequence[Cut] = ()) -> None:
        for cut in self._armed:
            if cut not in unless and cut.concerns("send", sql) and cut.take():
                self.cut = cut
                return

    def _suspect(self, sql: str) -> None:
        self._cycles[-1].suspects += [c for c in self._armed if c.concerns("reply", sql)]

    def _commit(self, suspects: Sequence[Cut]) -> None:
        self.cut = next((cut for cut in suspects if cut.take()), None)

    def _release(self) -> None:
        self.to_client += self._held
        self._held.clear()


@dataclass
class Cycle:
    """What one ReadyForQuery answers: a simple query, or all messages up to a Sync."""

    suspects: list[Cut] = field(default_factory=list)
    simple: bool = False
    awaited: bool = False
    failed: bool = False
    tag: str = ""


class Message(NamedTuple):
    """One whole message: its type byte, or a word for those that have none, and all its bytes."""

    kind: str
    raw: bytes

    def strings(self, count: int) -> list[str]:
        """The body's first `count` strings, each ended by a zero byte."""
        return [text.decode(errors="replace") for text in self.raw[5:].split(b"\0", count)[:count]]


class Framer:
    """Cut a stream of bytes into messages; what a client says first has no type byte."""

    _UNTYPED = {80877102: "cancel", 80877103: "ssl", 80877104: "gss"}  # noqa: RUF012

    def __init__(self, *, greets: bool) -> None:
        self._buffer = bytearray()
        self._greets = greets

    def feed(self, chunk: bytes) -> Iterator[Message]:
        self._buffer += chunk
        while message := self._next():
            yield message

    def _next(self) -> Message | None:
        typed = 0 if self._greets else 1
        if len(self._buffer) < typed + 4:
            return None
        length = int.from_bytes(self._buffer[typed : typed + 4])
        if not 4 <= length <= MAX_BYTES:
            raise ProtocolError(f"a message of {length} bytes; 4 to {MAX_BYTES} are accepted")
        if len(self._buffer) < typed + length:
            return None
        raw = bytes(self._buffer[: typed + length])
        del self._buffer[: typed + length]
        if typed:
            return Message(chr(raw[0]), raw)
        kind = self._UNTYPED.get(int.from_bytes(raw[4:8]), "startup")
        self._greets = kind in ("ssl", "gss")
        return Message(kind, raw)
