"""What a heartbeat tells, with the shapes that its readers count on.

The table is open to others: what another package, or a hand, has written there must break no page
and no report, so a value of another shape is left out as if it had not been told.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

#: Beyond it no count and no number of bytes is meant.
MOST: Final = 2**53
#: Characters of a text.
LONGEST: Final = 500


def read_told(meta: object) -> dict[str, Any]:
    if not isinstance(meta, Mapping):
        return {}
    return {key: value for key, value in meta.items() if key not in SHAPES or SHAPES[key](value)}


def is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= MOST  # false for NaN


def is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST


def is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST


def is_flag(value: object) -> bool:
    return isinstance(value, bool)


def is_list_of_ids(value: object) -> bool:
    return isinstance(value, list) and all(map(is_count, value))


def is_rate(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    return is_number(value.get("allowed")) and is_number(value.get("period"))


def maybe(shape: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or shape(value)


SHAPES: Final[Mapping[str, Callable[[object], bool]]] = {
    "limit": is_count,
    "paused": is_flag,
    "global_limit": maybe(is_count),
    "rate_limit": maybe(is_rate),
    "running": is_list_of_ids,
    "running_count": is_count,
    "waiting_count": is_count,
    "shutdown_started_at": maybe(is_text),
    "polling": maybe(is_text),
    "leader": is_flag,
    "pid": is_count,
    "version": is_text,
    "memory": maybe(is_number),
    "interval": is_number,
    "loop_lag": maybe(is_number),
}
