import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oban.text import MARK, MAX_BYTES, bounded, storable

anything = st.text(st.characters())  # lone surrogates and NUL characters among them


def is_storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= each <= "\udfff" for each in text)


@given(text=anything)
@example(text="\ud83d\ude00")
@example(text="a\0\udc00b")
def test_what_comes_out_can_be_stored(text: str) -> None:
    assert is_storable(storable(text))
    assert storable(text).encode("utf-8").decode("utf-8") == storable(text)


@given(text=anything.filter(is_storable))
def test_what_can_be_stored_is_left_alone(text: str) -> None:
    assert storable(text) == text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a\0b", "a\ufffdb"),
        ("a\ud800b", "a\ufffdb"),
        ("\udc00\ud800", "\ufffd\ufffd"),
        ("\ud83d\ude00", "😀"),  # the two halves of one character
        ("\ufeffa", "\ufeffa"),
    ],
)
def test_each_unstorable_character_is_replaced_alone(text: str, clean: str) -> None:
    assert storable(text) == clean


@given(text=anything, limit=st.integers(50, 200))
def test_bounded_text_fits_and_says_where_it_was_cut(text: str, limit: int) -> None:
    cut = bounded(text, limit)
    assert is_storable(cut)
    assert len(cut.encode("utf-8")) <= limit
    if len(storable(text).encode("utf-8")) <= limit:
        assert cut == storable(text)
    else:
        assert cut.endswith(MARK)
        assert storable(text).startswith(cut.removesuffix(MARK))


@pytest.mark.parametrize("character", ["a", "ü", "€", "😀"])
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_text_is_cut_at_the_limit_and_not_before(character: str, extra: int) -> None:
    width = len(character.encode("utf-8"))
    text = character * (MAX_BYTES // width + extra)
    cut = bounded(text)
    assert (cut == text) is (extra <= 0)
    assert len(cut.encode("utf-8")) <= MAX_BYTES
    assert len(cut.encode("utf-8")) > MAX_BYTES - 2 * width - 1
