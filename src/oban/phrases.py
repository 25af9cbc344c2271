"""Lengths, moments and numbers as people write them, wherever something is told."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta


def length_text(seconds: float, most: int = 2) -> str:
    """`1 h 59 min`, `3 d`, `20 s`: the largest units, seconds only below a minute."""
    left = max(0, round(seconds))
    pieces: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        amount, left = divmod(left, size)
        if amount and not (unit == "s" and pieces):
            pieces.append(f"{amount} {unit}")
    return " ".join(pieces[:most]) or "0 s"


def span_text(seconds: float | timedelta | None, pieces: int = 2) -> str:
    """A span of time in its largest units: `3 µs`, `12 ms`, `1.4 s`, `2 min 5 s`, `3 d 4 h`.

    `∞` where somebody has written an infinite time into a row.
    """
    if seconds is None:
        return ""
    left = seconds.total_seconds() if isinstance(seconds, timedelta) else float(seconds)
    if math.isinf(left):
        return "∞"
    if left < 0.001:
        return f"{max(0.0, left) * 1e6:.0f} µs"
    if left < 1:
        return f"{left * 1e3:.0f} ms"
    if left < 10:
        return f"{left:.1f} s" if pieces > 1 else f"{left:.0f} s"
    return length_text(left, pieces)


def moment_text(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"


def counted(number: int, noun: str) -> str:
    """`1 job`, `1,204 jobs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(items: Sequence[str], most: int = 10) -> str:
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest:,} more" if rest > 0 else "")
