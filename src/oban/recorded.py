"""Recorded results: Erlang's external term format, as Oban for Elixir reads and writes it.

The bytes stand in `meta.return` as base64 without padding. Reading yields plain data only: numbers,
text, lists and dicts; a term that names code, a process or an unknown atom becomes its text. The
library writes terms but does not read them: it would inflate without a bound, wherever in a value
compressed bytes stand, and take minutes for one large number.
"""

import base64
import math
import struct
import zlib
from collections.abc import Mapping
from typing import Any, Final

import erlang

from oban.text import storable

#: What a reader will inflate at most, and how many terms that may hold: a few bytes of compressed
#: zeros, or of empty lists, must not fill the memory.
MAX_DECODED_BYTES: Final = 256_000_000
MAX_INFLATED_TERMS: Final = 1_000_000
#: How deep lists and dicts may be nested; deeper ones could be written but not read.
MAX_DEPTH: Final = 200
VERSION: Final = b"\x83"
COMPRESSED: Final = b"\x83\x50"


def encode(value: object) -> str:
    """Return `value` as unpadded base64 of its term.

    Raises TypeError for what has no shared meaning in both languages.
    """
    return base64.b64encode(erlang.term_to_binary(to_term(value))).rstrip(b"=").decode("ascii")


def encoded_size(encoded: str) -> int:
    """Bytes of the term that `encoded` carries."""
    return len(encoded) * 3 // 4


def decode(encoded: object) -> Any:
    """Return the value that `encoded` carries. Raises ValueError when it is not such a value."""
    try:
        if not isinstance(encoded, str):
            raise TypeError(f"it is a {type(encoded).__name__}, not text")
        return read(base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True))
    except (ValueError, TypeError, IndexError, struct.error, zlib.error, RecursionError) as error:
        raise ValueError(f"not a recorded value: {error}") from error


# Writing


def to_term(value: object, depth: int = 0) -> object:
    """Write text as UTF-8 binaries and None as nil: the library alone would write neither."""
    if depth > MAX_DEPTH:
        raise TypeError(f"cannot record a value that is nested more than {MAX_DEPTH} deep")
    match value:
        case None:
            return erlang.OtpErlangAtom(b"nil")
        case bool():
            return value
        case int():
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
        case str():
            return erlang.OtpErlangBinary(storable(value).encode("utf-8"))
        case bytes():
            return erlang.OtpErlangBinary(value)
        case list() | tuple():
            return [to_term(item, depth + 1) for item in value]
        case Mapping():
            return {to_key(key): to_term(item, depth + 1) for key, item in value.items()}
        case _:
            raise TypeError(
                f"cannot record {type(value).__name__}: {value!r:.80}; a recorded result is made "
                "of None, bool, int, finite float, str, bytes, lists and dicts"
            )


def to_key(key: object) -> object:
    if not isinstance(key, str | int):
        raise TypeError(f"cannot record a dict with the key {key!r:.80}; keys are str or int")
    return to_term(key)


# Reading


def read(binary: bytes) -> Any:
    """The value of a whole term, its version byte included."""
    most_terms = len(binary)
    if binary.startswith(COMPRESSED):
        binary, most_terms = inflate(binary), MAX_INFLATED_TERMS
    if not binary.startswith(VERSION):
        raise ValueError("it does not begin like a term")
    reader = Reader(binary[1:], most_terms)
    value = reader.term()
    if reader.position != len(reader.data):
        raise ValueError("something follows the term")
    return value


def inflate(binary: bytes) -> bytes:
    """Undo the format's own compression of a whole term."""
    body = zlib.decompressobj().decompress(binary[6:], MAX_DECODED_BYTES + 1)
    if len(body) > MAX_DECODED_BYTES:
        raise ValueError(f"it is larger than {MAX_DECODED_BYTES} bytes when inflated")
    return VERSION + body


class Reader:
    """Reads the tags of "External Term Format" in Erlang's manual."""

    def __init__(self, data: bytes, most_terms: int) -> None:
        self.data = data
        self.position = 0
        self.terms_left = most_terms

    def term(self) -> Any:
        self.terms_left -= 1
        if self.terms_left < 0:
            raise ValueError("it holds too many terms")
        match tag := self.unsigned(1):
            case 97:  # SMALL_INTEGER_EXT
                return self.unsigned(1)
            case 98:  # INTEGER_EXT
                return int.from_bytes(self.take(4), signed=True)
            case 110 | 111:  # SMALL_BIG_EXT, LARGE_BIG_EXT
                return self.big(self.unsigned(1 if tag == 110 else 4))
            case 70:  # NEW_FLOAT_EXT
                return struct.unpack(">d", self.take(8))[0]
            case 99:  # FLOAT_EXT
                return float(self.take(31).rstrip(b"\0"))
            case 100 | 118:  # ATOM_EXT, ATOM_UTF8_EXT
                return atom(self.take(self.unsigned(2)))
            case 115 | 119:  # SMALL_ATOM_EXT, SMALL_ATOM_UTF8_EXT
                return atom(self.take(self.unsigned(1)))
            case 109:  # BINARY_EXT: Elixir's strings
                return text(self.take(self.unsigned(4)))
            case 107:  # STRING_EXT: a list of small integers, not text
                return list(self.take(self.unsigned(2)))
            case 106:  # NIL_EXT
                return []
            case 108:  # LIST_EXT
                return self.sequence(self.items(4))
            case 104 | 105:  # SMALL_TUPLE_EXT, LARGE_TUPLE_EXT
                return [self.term() for _ in range(self.items(1 if tag == 104 else 4))]
            case 116:  # MAP_EXT
                return {key(self.term()): self.term() for _ in range(self.items(4))}
            case _:
                return self.opaque(tag)

    def items(self, size: int) -> int:
        """How many follow. Each is a term at least, so too many are refused before the first."""
        count = self.unsigned(size)
        if count > self.terms_left:
            raise ValueError("it holds too many terms")
        return count

    def big(self, size: int) -> int:
        negative = self.unsigned(1)
        value = int.from_bytes(self.take(size), "little")
        return -value if negative else value

    def sequence(self, size: int) -> list[Any]:
        items = [self.term() for _ in range(size)]
        if (tail := self.term()) != []:
            items.append(tail)
        return items

    def opaque(self, tag: int) -> str:
        """What has no meaning here, as its kind and what tells it from others."""
        match tag:
            case 103 | 88:  # PID_EXT, NEW_PID_EXT
                return self.named("pid", 9 if tag == 103 else 12)
            case 102 | 89 | 120:  # PORT_EXT, NEW_PORT_EXT, V4_PORT_EXT
                return self.named("port", {102: 5, 89: 8, 120: 12}[tag])
            case 114 | 90:  # NEW_REFERENCE_EXT, NEWER_REFERENCE_EXT
                words = self.unsigned(2)
                return self.named("reference", words * 4 + (1 if tag == 114 else 4))
            case 77:  # BIT_BINARY_EXT
                size, bits = self.unsigned(4), self.unsigned(1)
                return f"#bitstring<{self.take(size).hex()}, {bits} bits in the last byte>"
            case 113:  # EXPORT_EXT
                return f"&{self.term()}.{self.term()}/{self.term()}"
            case 112:  # NEW_FUN_EXT
                return f"#function<{self.take(self.unsigned(4) - 4)[1:17].hex()}>"
            case _:
                raise ValueError(f"a term has the tag {tag}, which is not known")

    def named(self, kind: str, size: int) -> str:
        return f"#{kind}<{self.term()} {self.take(size).hex()}>"

    def unsigned(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def take(self, size: int) -> bytes:
        taken = self.data[self.position : self.position + size]
        if size < 0 or len(taken) < size:
            raise ValueError("it is cut short")
        self.position += size
        return taken


def atom(name: bytes) -> bool | str | None:
    match name:
        case b"true" | b"false":
            return name == b"true"
        case b"nil" | b"undefined":
            return None
        case _:
            return name.decode("utf-8", "replace")


def text(value: bytes) -> str | bytes:
    """Text where it is text: Elixir's strings are binaries."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value


def key(value: Any) -> Any:
    """What a dict can be asked for: a list as a tuple, a dict as its text."""
    match value:
        case list():
            return tuple(map(key, value))
        case dict():
            return repr(value)
        case _:
            return value
