"""Tracebacks are Python's own to the last letter, the first time and whenever they come again."""

import traceback
from collections.abc import Callable

import pytest

from oban.telemetry import tracebacks
from oban.telemetry.tracebacks import LONGEST_WAY, MOST_WAYS, write_traceback

Raising = Callable[[], object]


def plain() -> None:
    raise RuntimeError("plain")


def through_others() -> None:
    sorted([1, 2], key=lambda _: plain())  # type: ignore[arg-type,return-value]


def caused() -> None:
    try:
        plain()
    except RuntimeError as error:
        raise ValueError("caused") from error


def while_handling() -> None:
    try:
        plain()
    except RuntimeError:
        raise ValueError("while another was handled")  # that is the case


def hidden() -> None:
    try:
        plain()
    except RuntimeError:
        raise ValueError("hidden") from None


def grouped() -> None:
    raise ExceptionGroup("several", [ValueError("one"), TypeError("another")])


def with_notes() -> None:
    error = RuntimeError("with notes")
    error.add_note("first")
    error.add_note("second")
    raise error


def ungrammatical() -> None:
    compile("a b", "<typed>", "exec")


def misspelt() -> None:
    traceback.format_exceptoin  # type: ignore[attr-defined]


def deep(depth: int = 100) -> None:
    if depth:
        deep(depth - 1)
    plain()


def mute() -> None:
    raise KeyError


@pytest.mark.parametrize(
    "raising",
    [
        plain,
        through_others,
        caused,
        while_handling,
        hidden,
        grouped,
        with_notes,
        ungrammatical,
        misspelt,
        deep,
        mute,
    ],
)
def test_a_traceback_is_what_python_writes(raising: Raising) -> None:
    for _ in range(3):
        error = caught(raising)
        expected = "".join(traceback.format_exception(error))
        assert write_traceback(error, error.__traceback__) == expected


def caught(raising: Raising) -> Exception:
    try:
        raising()
    except Exception as error:
        return error
    raise AssertionError("it raises nothing")


def test_two_errors_of_one_place_keep_their_own_words() -> None:
    written = []
    for number in range(3):
        try:
            raise RuntimeError(number)
        except RuntimeError as error:
            written.append(write_traceback(error, error.__traceback__))
    assert [text.splitlines()[-1] for text in written] == [
        f"RuntimeError: {number}" for number in range(3)
    ]


def test_two_files_that_read_the_same_are_told_apart() -> None:
    for file in ("first.py", "second.py", "first.py"):
        name: dict[str, Raising] = {}
        exec(compile("def raising(): raise RuntimeError", file, "exec"), name)
        error = caught(name["raising"])
        assert f'File "{file}", line 1' in write_traceback(error, error.__traceback__)


def test_an_error_that_was_never_raised_has_no_way() -> None:
    assert write_traceback(ValueError("made"), None) == "ValueError: made\n"


def test_what_is_remembered_is_bounded() -> None:
    for number in range(2 * MOST_WAYS):
        name: dict[str, Raising] = {}
        exec(f"def raising(): raise RuntimeError({number})", name)  # code of its own
        try:
            name["raising"]()
        except RuntimeError as error:
            write_traceback(error, error.__traceback__)
        assert len(tracebacks._written) <= MOST_WAYS
    try:
        deep(LONGEST_WAY)
    except RuntimeError as error:
        before = len(tracebacks._written)
        write_traceback(error, error.__traceback__)
        assert len(tracebacks._written) == before
