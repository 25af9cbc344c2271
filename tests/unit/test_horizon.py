"""The horizon stays before all that somebody may yet make visible."""

import math
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from oban.running.horizon import MARGIN, Horizon


def test_where_nobody_writes_it_is_now() -> None:
    assert Horizon().look(100.0, []) == 100.0 - MARGIN


def test_who_writes_holds_it_where_he_was_not_seen_yet() -> None:
    horizon = Horizon()
    horizon.look(100.0, [])
    assert horizon.look(105.0, ["a"]) == 100.0 - MARGIN
    assert horizon.look(110.0, ["a", "b"]) == 100.0 - MARGIN
    assert horizon.held_for() == 5.0
    assert horizon.look(115.0, ["b"]) == 105.0 - MARGIN
    assert horizon.look(120.0, []) == 120.0 - MARGIN


def test_of_who_was_there_first_nothing_is_known_until_he_has_ended() -> None:
    horizon = Horizon()
    assert horizon.look(100.0, ["a"]) == -math.inf
    assert horizon.look(105.0, ["a", "b"]) == -math.inf
    assert horizon.look(110.0, ["b"]) == 100.0 - MARGIN


def test_where_the_clock_was_set_back_nothing_is_known_of_those_who_write() -> None:
    horizon = Horizon()
    horizon.look(3_700.0, [])
    horizon.look(3_705.0, ["a"])
    assert horizon.look(110.0, ["a", "b"]) == -math.inf
    assert horizon.look(115.0, ["c"]) == 110.0 - MARGIN


@dataclass(frozen=True)
class Transaction:
    began: int
    length: int


transactions = st.lists(st.builds(Transaction, st.integers(0, 50), st.integers(1, 30)), max_size=20)


@given(transactions, st.lists(st.integers(1, 10), min_size=1, max_size=20))
def test_nobody_who_writes_began_before_it(given: list[Transaction], pauses: list[int]) -> None:
    horizon, at = Horizon(), 0
    for pause in pauses:
        at += pause
        running = {str(n): each for n, each in enumerate(given)
                   if each.began <= at < each.began + each.length}  # fmt: skip
        found = horizon.look(float(at), running)
        assert all(each.began > found for each in running.values())
