from datetime import UTC, datetime, timedelta

import pytest

from oban.cli.terminal import printable, relative
from oban.phrases import counted, length_text, listed, moment_text

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.2, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (7199, "1 h 59 min"),
        (7199.9, "2 h"),
        (86_400 + 3_600 + 60, "1 d 1 h"),
        (90_061 * 10, "10 d 10 h"),
    ],
)
def test_a_length_is_told_in_the_words_of_people(seconds: float, shown: str) -> None:
    assert length_text(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "now"),
        (-0.9, "now"),
        (-1, "1s ago"),
        (90, "in 90s"),
        (60, "in 1m"),
        (-119, "119s ago"),
        (-120, "2m ago"),
        (3600, "in 1h"),
        (-7199, "119m ago"),
        (7200, "in 2h"),
        (-86_400 * 3, "3d ago"),
        (86_400 * 365, "in 365d"),
    ],
)
def test_a_distance_is_told_in_its_largest_unit(seconds: float, shown: str) -> None:
    assert relative(NOW + timedelta(seconds=seconds), NOW) == shown


def test_no_moment_is_no_text() -> None:
    assert relative(None) == ""
    assert moment_text(None) == ""


def test_a_moment_is_told_to_the_millisecond() -> None:
    assert moment_text(NOW.replace(microsecond=120_999)) == "2026-05-06 07:08:09.120 UTC"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü €", "plain ü €"),
        ("two\nlines", "two\nlines"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\tb\x00\x07\x9b", "a    b\\x00\\x07\\x9b"),
        ("\u202eright to left", "\\u202eright to left"),
    ],
)
def test_text_of_others_cannot_steer_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_numbers_and_lists_are_readable() -> None:
    assert counted(1, "job") == "1 job"
    assert counted(1204, "job") == "1,204 jobs"
    assert listed(list("abc")) == "a, b, c"
    assert listed([str(each) for each in range(12)], 2) == "0, 1 and 10 more"
