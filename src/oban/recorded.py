"""Recorded results: Erlang's external term format, as Oban for Elixir reads and writes it.

The bytes stand in `meta.return` as base64 without padding. Reading yields plain data only: numbers,
text, lists and dicts; a term that names code, a process or an unknown atom becomes its text.
"""

import base64
import binascii
import zlib
from collections.abc import Mapping
from typing import Any

import erlang

from oban.text import storable

#: What a reader will inflate at most: a few bytes of compressed zeros must not fill the memory.
MAX_DECODED_BYTES = 256_000_000
COMPRESSED_TERM = b"\x83\x50"


def encode(value: object) -> str:
    """Return `value` as unpadded base64 of its term.

    Raises TypeError for what has no shared meaning in both languages.
    """
    return base64.b64encode(erlang.term_to_binary(to_term(value))).rstrip(b"=").decode("ascii")


def encoded_size(encoded: str) -> int:
    """Bytes of the term that `encoded` carries."""
    return len(encoded) * 3 // 4


def decode(encoded: str) -> Any:
    """Return the value that `encoded` carries. Raises ValueError when it is not such a value."""
    try:
        binary = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        return from_term(erlang.binary_to_term(inflate(binary)))
    except (erlang.ParseException, binascii.Error, zlib.error, IndexError, RecursionError) as error:
        raise ValueError(f"not a recorded value: {error}") from error


def inflate(binary: bytes) -> bytes:
    """Undo the format's own compression, within a bound the library does not set."""
    if not binary.startswith(COMPRESSED_TERM):
        return binary
    body = zlib.decompressobj().decompress(binary[6:], MAX_DECODED_BYTES + 1)
    if len(body) > MAX_DECODED_BYTES:
        raise ValueError(f"a recorded value may not be larger than {MAX_DECODED_BYTES} bytes")
    return b"\x83" + body


def to_term(value: object) -> object:
    """Write text as UTF-8 binaries and None as nil: the library alone would write neither."""
    match value:
        case None:
            return erlang.OtpErlangAtom(b"nil")
        case bool() | int() | float():
            return value
        case str():
            return erlang.OtpErlangBinary(storable(value).encode("utf-8"))
        case bytes():
            return erlang.OtpErlangBinary(value)
        case list() | tuple():
            return [to_term(item) for item in value]
        case Mapping():
            return {to_key(key): to_term(item) for key, item in value.items()}
        case _:
            raise TypeError(
                f"cannot record {type(value).__name__}: {value!r:.80}; "
                "a recorded result is made of None, bool, int, float, str, bytes, lists and dicts"
            )


def to_key(key: object) -> object:
    if not isinstance(key, str | int):
        raise TypeError(f"cannot record a dict with the key {key!r:.80}; keys are str or int")
    return to_term(key)


def from_term(term: object) -> Any:
    match term:
        case None | bool() | int() | float():
            return term
        case erlang.OtpErlangAtom():
            return from_atom(term)
        case erlang.OtpErlangBinary():
            return from_bytes(term.value)
        case bytes():
            return from_bytes(term)
        case str():
            return term
        case erlang.OtpErlangList():
            return [from_term(item) for item in term.value]
        case list() | tuple():
            return [from_term(item) for item in term]
        case Mapping():
            return {from_key(key): from_term(item) for key, item in term.items()}
        case _:
            return repr(term)


def from_atom(atom: Any) -> Any:
    name = atom.value
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    return None if text in ("nil", "undefined") else text


def from_bytes(value: bytes) -> str | bytes:
    """Text where it is text: Elixir's strings are binaries."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value


def from_key(key: object) -> Any:
    value = from_term(key)
    return tuple(value) if isinstance(value, list) else value
