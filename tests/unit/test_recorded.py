"""Recorded results, against bytes as Erlang's manual describes them and against hostile ones."""

import base64
import resource
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum, StrEnum
from functools import cache
from typing import Any

import erlang
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oban.recorded import MAX_DEPTH, decode, encode, encoded_size

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts | st.integers(), inner),
    max_leaves=20,
)


def packed(*parts: bytes | int) -> str:
    """A term as it stands in meta: the version byte, then the parts."""
    term = b"".join(bytes([part]) if isinstance(part, int) else part for part in parts)
    return base64.b64encode(b"\x83" + term).rstrip(b"=").decode()


def four(number: int) -> bytes:
    return number.to_bytes(4)


def compressed(term: bytes) -> bytes:
    return b"P" + four(len(term)) + zlib.compress(term)


def binary(value: bytes) -> bytes:
    return b"m" + four(len(value)) + value


# Writing and reading


@given(value=plain)
@example(value=2**63)
@example(value=-(2**2100))
@example(value=[[], {}, ""])
def test_what_is_recorded_is_read_back(value: Any) -> None:
    encoded = encode(value)
    assert decode(encoded) == value
    assert "=" not in encoded


@given(value=plain)
def test_what_is_written_is_what_the_format_says(value: Any) -> None:
    binary = base64.b64decode(encode(value) + "==")
    assert as_data(erlang.binary_to_term(binary)) == value
    assert encoded_size(encode(value)) == len(binary)


def as_data(term: Any) -> Any:
    """What the library has read, in Python's own words."""
    match term:
        case erlang.OtpErlangAtom():
            assert term.value == b"nil"
            return None
        case erlang.OtpErlangBinary():
            return term.value.decode()
        case list():
            return [as_data(item) for item in term]
        case dict():
            return {as_data(key): as_data(item) for key, item in term.items()}
    return term


@pytest.mark.parametrize(
    ("value", "term"),
    [
        (None, b"s\x03nil"),
        (True, b"w\x04true"),
        (7, b"a\x07"),
        ("ü", b"m\0\0\0\x02\xc3\xbc"),
        ([], b"j"),
        ({"a": 1.5}, b"t\0\0\0\x01m\0\0\0\x01aF?\xf8\0\0\0\0\0\0"),
    ],
)
def test_elixir_finds_nil_binaries_and_maps(value: Any, term: bytes) -> None:
    assert encode(value) == packed(term)


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    BIG = 3


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ((1, 2), [1, 2]),
        (Colour.RED, "red"),
        ({Size.BIG: Size.BIG}, {3: 3}),
        (b"\xff\xfe", b"\xff\xfe"),
        (b"text", "text"),
        ("a\0b\ud800", "a\ufffdb\ufffd"),
    ],
)
def test_what_python_tells_apart_and_the_format_does_not(value: Any, read: Any) -> None:
    assert decode(encode(value)) == read


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1.5: 1},
        {(1,): 1},
        {1, 2},
        float("nan"),
        float("inf"),
        [{"a": -float("inf")}],
        1j,
        len,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_meaning_in_both_languages_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot record"):
        encode(value)


def test_a_value_inside_itself_is_a_type_error() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(TypeError, match="nested"):
        encode(value)


def test_the_deepest_value_that_is_written_is_read() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH // 2):
        value = {"a": [value]}
    assert decode(encode(value)) == value
    with pytest.raises(TypeError, match="nested more than 200 deep"):
        encode([value])


# What others write

NODE = b"w\x04a@b."


@pytest.mark.parametrize(
    ("term", "value"),
    [
        (b"k\0\x03\x01\x02\x03", [1, 2, 3]),  # a list of small integers, as Elixir writes it
        (b"h\x02w\x02oka\x01", ["ok", 1]),
        (b"i\0\0\0\x01a\x01", [1]),
        (b"d\0\x03nil", None),
        (b"v\0\x09undefined", None),
        (b"s\x05false", False),
        (b"w\x02\xc3\xbc", "ü"),
        (b"s\x02\xc3\x28", "\ufffd("),
        (b"w\x04nope", "nope"),
        (b"l\0\0\0\x01a\x01a\x02", [1, 2]),  # an improper list, [1 | 2]
        (b"b\xff\xff\xff\xff", -1),
        (b"n\x01\x01\x02", -2),
        (b"o\0\0\0\x02\x00\x01\x01", 257),
        (b"c" + b"1.50000000000000000000e+00".ljust(31, b"\0"), 1.5),
        (b"t\0\0\0\x01k\0\x01\x01a\x02", {(1,): 2}),
        (b"t\0\0\0\x01t\0\0\0\0a\x02", {"{}": 2}),
        (b"M\0\0\0\x01\x03\xa0", "#bitstring<a0, 3 bits in the last byte>"),
        (b"X" + NODE + bytes(12), f"#pid<a@b. {'00' * 12}>"),
        (b"g" + NODE + bytes(9), f"#pid<a@b. {'00' * 9}>"),
        (b"x" + NODE + bytes(12), f"#port<a@b. {'00' * 12}>"),
        (b"Z\0\x02" + NODE + bytes(12), f"#reference<a@b. {'00' * 12}>"),
        (b"qw\x05lists w\x03mapa\x02".replace(b" ", b""), "&lists.map/2"),
        (b"p" + four(21) + bytes(17), f"#function<{'00' * 16}>"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_every_kind_of_term_is_read_as_plain_data(term: bytes, value: Any) -> None:
    assert decode(packed(term)) == value
    assert decode(packed(compressed(term))) == value
    in_a_list = b"l" + four(2) + term + b"a\x05" + b"j"
    assert decode(packed(in_a_list)) == [value, 5]


def test_what_elixir_has_compressed_is_read() -> None:
    assert decode(packed(compressed(binary(b"ha" * 1000)))) == "ha" * 1000


# What hostile hands write


@given(term=st.binary())
@example(term=b"t\0\0\0\x01l\0\0\0\x01jja\x01")
@example(term=b"l\xff\xff\xff\xff")
@example(term=b"p\0\0\0\0")
def test_any_bytes_are_plain_data_or_a_value_error(term: bytes) -> None:
    check_plain(packed(term))
    check_plain(packed(b"P" + term))
    check_plain(packed(compressed(term)))


@given(data=st.data())
def test_a_damaged_record_is_plain_data_or_a_value_error(data: st.DataObject) -> None:
    binary = bytearray(base64.b64decode(encode(data.draw(plain)) + "=="))
    for _ in range(data.draw(st.integers(1, 3))):
        binary[data.draw(st.integers(0, len(binary) - 1))] = data.draw(st.integers(0, 255))
    check_plain(base64.b64encode(bytes(binary)).decode())


@given(encoded=st.text() | st.integers() | st.none() | st.binary())
def test_whatever_stands_in_meta_is_plain_data_or_a_value_error(encoded: Any) -> None:
    check_plain(encoded)


def check_plain(encoded: Any) -> None:
    with suppress(ValueError):
        assert is_plain(decode(encoded))


def is_plain(value: Any) -> bool:
    match value:
        case list() | tuple():
            return all(map(is_plain, value))
        case dict():
            return all(is_plain(key) and is_plain(item) for key, item in value.items())
    return type(value) in (type(None), bool, int, float, str, bytes)


@cache
def zeros() -> bytes:
    return b"P" + four(300_000_000) + zlib.compress(bytes(300_000_000), 1)


#: Made when a test wants one: every process that collects tests imports this module.
BOMBS: dict[str, Callable[[], bytes]] = {
    "compressed zeros": zeros,
    "compressed zeros in a list": lambda: b"l\0\0\0\x01" + zeros() + b"j",
    "compressed zeros in compressed bytes": lambda: compressed(zeros()),
    "empty lists": lambda: compressed(b"l" + four(60_000_000) + b"j" * 60_000_000),
    "empty lists in a map": lambda: compressed(b"t" + four(1_500_000) + b"j" * 3_000_000),
    "empty lists in a tuple": lambda: compressed(b"i" + four(3_000_000) + b"j" * 3_000_000),
    "a list of four billion": lambda: b"l\xff\xff\xff\xff" + b"j" * 1000,
    "a tuple of four billion": lambda: b"i\xff\xff\xff\xff",
    "a text of four gigabytes": lambda: b"m\xff\xff\xff\xff",
    "a number of four gigabytes": lambda: b"o\xff\xff\xff\xff\0",
    "a number with a million digits, cut short": lambda: b"o" + four(2_000_000) + b"\0" * 1_000_000,
    "a hundred thousand lists in each other": lambda: b"l\0\0\0\x01" * 100_000,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_takes_neither_time_nor_memory(bomb: str) -> None:
    encoded = packed(BOMBS[bomb]())
    with (
        bounded(seconds=5, megabytes=600),
        pytest.raises(ValueError, match="not a recorded value"),
    ):
        decode(encoded)


def test_terms_are_counted_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than are allowed, though no list has that many."""

    def lists(count: int) -> str:
        inner = b"l" + four(98) + b"j" * 98 + b"j"  # a hundred with itself and its end
        return packed(compressed(b"l" + four(count) + inner * count + b"j"))

    monkeypatch.setattr("oban.recorded.MAX_INFLATED_TERMS", 1_002)
    assert decode(lists(10)) == [[[]] * 98] * 10
    with pytest.raises(ValueError, match="too many terms"):
        decode(lists(11))


def test_a_large_number_is_read_in_no_time() -> None:
    encoded = packed(b"o" + four(1_000_000) + b"\0" + b"\xff" * 1_000_000)
    with bounded(seconds=1, megabytes=100):
        assert decode(encoded) == 2**8_000_000 - 1


@contextmanager
def bounded(*, seconds: float, megabytes: int) -> Iterator[None]:
    """The seconds are this process's own, whatever else the machine does.

    The memory is that of the process at its peak, so what others took before counts as well.
    """
    before, started = peak(), time.process_time()
    yield
    assert time.process_time() - started < seconds
    assert peak() - before < megabytes


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
