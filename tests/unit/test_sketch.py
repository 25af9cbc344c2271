"""Sketches know durations to within two hundredths, however they were put together."""

from bisect import bisect_right
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from oban.sketch import LONGEST, NANOSECONDS, RELATIVE_ERROR, bin_of, summarize, value_of

durations = st.lists(st.integers(1, LONGEST), min_size=1, max_size=200)


@given(st.integers(1, LONGEST))
def test_what_stands_for_a_bin_is_near_all_that_is_in_it(nanoseconds: int) -> None:
    told = value_of(bin_of(nanoseconds)) * NANOSECONDS
    assert abs(told - nanoseconds) <= RELATIVE_ERROR * nanoseconds * (1 + 1e-9)


@given(st.integers(-5, 1) | st.integers(LONGEST, LONGEST * 1000))
def test_the_number_of_bins_is_bounded(nanoseconds: int) -> None:
    assert bin_of(nanoseconds) in (0, 1037)


@given(durations, durations)
def test_sketches_that_are_added_tell_what_one_of_all_would(one: list[int], two: list[int]) -> None:
    merged = Counter(map(bin_of, one)) + Counter(map(bin_of, two))
    assert summarize(merged) == summarize(Counter(map(bin_of, one + two)))


@given(durations)
def test_quantiles_and_the_mean_are_right_to_within_two_hundredths(given: list[int]) -> None:
    found = summarize(Counter(map(bin_of, given)))
    assert found is not None
    exact = sorted(given)
    for told, share in ((found.p50, 0.5), (found.p95, 0.95), (found.p99, 0.99)):
        assert near(told, exact[int(share * (len(exact) - 1))])
    assert near(found.mean, sum(given) / len(given))
    assert found.count == len(given)
    assert bisect_right(exact, found.p50 * NANOSECONDS * 1.03) >= len(exact) // 2


def near(told: float, exact: float) -> bool:
    return abs(told * NANOSECONDS - exact) <= RELATIVE_ERROR * exact * (1 + 1e-6)


def test_of_nothing_nothing_is_told() -> None:
    assert summarize({}) is None
