import pytest
from hypothesis import given
from hypothesis import strategies as st

from oban.backoff import LONGEST_OUTAGE_WAIT, default_backoff, outage_backoff, with_jitter
from oban.fields import MAX_ATTEMPTS

DAY = 86_400
attempts = st.integers(1, MAX_ATTEMPTS).flatmap(
    lambda most: st.tuples(st.integers(1, most), st.just(most))
)


@pytest.mark.parametrize(
    ("attempt", "least"), [(1, 17), (2, 19), (3, 23), (10, 1039), (20, 15 + 2**20)]
)
def test_the_wait_doubles_with_every_attempt(attempt: int, least: int) -> None:
    for _ in range(100):
        assert least <= default_backoff(attempt, 20) <= least * 1.1


@given(attempt=attempts)
def test_no_wait_is_longer_than_two_weeks_however_many_attempts_are_allowed(
    attempt: tuple[int, int],
) -> None:
    assert 15 < default_backoff(*attempt) < 14 * DAY


@given(most=st.integers(20, MAX_ATTEMPTS))
def test_more_attempts_than_twenty_share_the_twenty_steps(most: int) -> None:
    last = 15 + 2**20
    assert last <= default_backoff(most, most) <= last * 1.1
    if most > 40:
        assert default_backoff(1, most) <= (15 + 1) * 1.1


@given(attempt=st.integers(1, MAX_ATTEMPTS - 1), most=st.integers(1, MAX_ATTEMPTS))
def test_a_later_attempt_does_not_wait_less(attempt: int, most: int) -> None:
    """But for the jitter; an attempt beyond the last stands in rows of others."""
    assert default_backoff(attempt + 1, most) * 1.1 >= default_backoff(attempt, most)


def test_waits_are_spread() -> None:
    waits = {default_backoff(5, 20) for _ in range(50)}
    assert len(waits) == 50
    assert min(waits) >= 47


@given(delay=st.floats(0, 1e9))
def test_jitter_adds_at_most_a_tenth(delay: float) -> None:
    assert delay <= with_jitter(delay) <= delay * 1.1


@given(failures=st.integers(1, 10**9))
def test_a_database_that_is_away_is_asked_again_within_two_seconds(failures: int) -> None:
    assert 0.05 <= outage_backoff(failures) <= LONGEST_OUTAGE_WAIT == 2.0


def test_the_first_failures_are_followed_soon() -> None:
    assert [0.05 * 2**n <= outage_backoff(n + 1) <= 0.055 * 2**n for n in range(5)] == [True] * 5
    assert outage_backoff(1000) == 2.0
