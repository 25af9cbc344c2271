"""Lengths, moments and numbers as people write them, wherever something is told."""

from collections.abc import Sequence
from datetime import datetime


def length_text(seconds: float, most: int = 2) -> str:
    """`1 h 59 min`, `3 d`, `20 s`: the largest units, seconds only below a minute."""
    left = max(0, round(seconds))
    pieces: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        amount, left = divmod(left, size)
        if amount and not (unit == "s" and pieces):
            pieces.append(f"{amount} {unit}")
    return " ".join(pieces[:most]) or "0 s"


def moment_text(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"


def counted(number: int, noun: str) -> str:
    """`1 job`, `1,204 jobs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(items: Sequence[str], most: int = 10) -> str:
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest:,} more" if rest > 0 else "")
