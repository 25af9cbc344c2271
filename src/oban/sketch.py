"""Durations as sketches: how many fell into each bin, which can be added and asked for quantiles.

By the formula of DDSketch (Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile
sketch with relative-error guarantees", VLDB 2019). Bin `i` holds the durations above `GAMMA ** (i -
1)` and up to `GAMMA ** i` nanoseconds, so whatever is in it is known to within `RELATIVE_ERROR`.
"""

import math
from collections.abc import Mapping
from typing import Final

from oban.metrics import Quantiles

#: As nodes of other packages have it: their sketches and ours can be added.
RELATIVE_ERROR: Final = 0.02
GAMMA: Final = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
LOG_GAMMA: Final = math.log(GAMMA)
NANOSECONDS: Final = 1_000_000_000
#: No duration is longer: about 30 years. It bounds the number of bins to 1,037.
LONGEST: Final = 1_000_000_000 * NANOSECONDS

Bins = Mapping[int, int]


def bin_of(nanoseconds: int) -> int:
    """The bin of a duration; what took no time at all is in that of a nanosecond."""
    if nanoseconds <= 1:
        return 0
    return math.ceil(math.log(min(nanoseconds, LONGEST)) / LOG_GAMMA)


def value_of(index: int) -> float:
    """The seconds that stand for all durations in a bin, none of which is far from it."""
    return 2 * GAMMA**index / (GAMMA + 1) / NANOSECONDS


def summarize(bins: Bins) -> Quantiles | None:
    """What is told of a sketch, None of one that is empty."""
    count = sum(bins.values())
    if count <= 0:
        return None
    ordered = sorted(bins.items())
    p50, p95, p99 = (quantile(ordered, share * (count - 1)) for share in (0.5, 0.95, 0.99))
    mean = sum(value_of(index) * times for index, times in ordered) / count
    return Quantiles(p50, p95, p99, mean, count)


def quantile(ordered: list[tuple[int, int]], rank: float) -> float:
    seen = 0
    for index, times in ordered:
        seen += times
        if seen > rank:
            return value_of(index)
    return value_of(ordered[-1][0])
