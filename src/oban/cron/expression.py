"""From the text of a cron expression to the values that each of its fields allows."""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from oban.errors import InvalidOption

MAX_LENGTH: Final = 255
REBOOT: Final = "@reboot"
NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


@dataclass(frozen=True, slots=True)
class Fields:
    """What an expression allows: a day must fit `days`, `months` and `weekdays`, all three.

    `times` are minutes since midnight, ascending. Weekdays count from Sunday, 0.
    """

    times: tuple[int, ...]
    days: tuple[int, ...]
    months: frozenset[int]
    weekdays: frozenset[int]
    every_hour: bool


def read(expr: object) -> Fields | None:
    """What `expr` allows, None for `@reboot`. Raises InvalidOption, also if it can never run."""
    if not isinstance(expr, str):
        raise InvalidOption(f"cron is {expr!r:.80}; it is an expression such as '*/5 * * * *'")
    if len(expr) > MAX_LENGTH:
        raise InvalidOption(
            f"cron {expr[:40]!r}… has {len(expr)} characters; at most {MAX_LENGTH} are accepted"
        )
    text = expr.strip().lower()
    if text == REBOOT:
        return None
    if text.startswith("@"):
        text = spelled_out(text)
    parts = text.split()
    if len(parts) != len(FIELDS):
        seconds = ", seconds are not supported" if len(parts) > len(FIELDS) else ""
        raise InvalidOption(
            f"cron {expr!r} has {len(parts)} fields; it has five{seconds}: minute hour "
            "day-of-month month day-of-week, such as '30 9 * * MON-FRI'"
        )
    minutes, hours, days, months, weekdays = (
        field.read(part, expr) for field, part in zip(FIELDS, parts, strict=True)
    )
    longest = max(LENGTHS.get(month, 31) for month in months)
    if min(days) > longest:  # any other day falls on each weekday within 400 years
        raise InvalidOption(
            f"cron {expr!r} never runs: the longest month it names has {longest} days, "
            f"and the first day it names is {min(days)}"
        )
    return Fields(
        times=tuple(hour * 60 + minute for hour in sorted(hours) for minute in sorted(minutes)),
        days=tuple(sorted(days)),
        months=frozenset(months),
        weekdays=frozenset(weekday % 7 for weekday in weekdays),
        every_hour=len(hours) == 24,
    )


#: Days of the months that do not have 31, in a leap year.
LENGTHS: Final = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}


def spelled_out(nickname: str) -> str:
    if nickname in NICKNAMES:
        return NICKNAMES[nickname]
    names = (*NICKNAMES, REBOOT)
    raise InvalidOption(
        f"cron is {nickname!r}; the nicknames are {' '.join(names)}{suggestion(nickname, names)}"
    )


def suggestion(text: str, names: tuple[str, ...]) -> str:
    known = {name.lower(): name for name in names}
    nearest = get_close_matches(text, known, n=1, cutoff=0.5)
    return "".join(f"; did you mean {known[name]}?" for name in nearest)


class Refusal(Exception):
    """A part of a field is wrong: the part, and what is accepted there."""

    def __init__(self, part: str, advice: str) -> None:
        super().__init__(part, advice)
        self.part = part
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Field:
    """One of the five: `first` to `last` are what `*` means, `highest` is accepted too."""

    title: str
    first: int
    last: int
    highest: int
    names: tuple[str, ...] = ()

    def read(self, text: str, expr: str) -> set[int]:
        try:
            return {value for item in text.split(",") for value in self.values(item)}
        except Refusal as refusal:
            wrong = "" if refusal.part == text else f", wrong at {refusal.part.upper()!r}"
            raise InvalidOption(
                f"cron {expr!r}: {self.title} is {text.upper()!r}{wrong}; {refusal.advice}"
            ) from None

    def values(self, item: str) -> range:
        """The values of `*`, `1`, `1-5`, and of each with a step; `5/15` goes on to the end."""
        body, slash, step = item.partition("/")
        start, dash, end = body.partition("-")
        if body == "*":
            first, last = self.first, self.last
        elif dash:
            first, last = self.value(start), self.value(end)
            if first > last:
                forwards = ",".join(self.split(first, last, named=start in self.names))
                raise Refusal(body, f"it runs backwards: write {forwards}")
        else:
            first = last = self.value(body)
            if slash:
                last = max(first, self.last)
        most = self.last - self.first + 1
        if slash and not (step.isascii() and step.isdigit() and 1 <= int(step) <= most):
            raise Refusal(item, f"its step, after the /, is a number from 1 to {most}")
        return range(first, last + 1, int(step) if slash else 1)

    def value(self, text: str) -> int:
        if text in self.names:
            return self.first + self.names.index(text)
        if text.isascii() and text.isdigit() and self.first <= int(text) <= self.highest:
            return int(text)
        sunday = " (0 and 7 are Sunday)" if self.highest > self.last else ""
        names = f" or one of {' '.join(self.names).upper()}" if self.names else ""
        nearest = suggestion(text, tuple(name.upper() for name in self.names))
        raise Refusal(
            text, f"it is a number from {self.first} to {self.highest}{sunday}{names}{nearest}"
        )

    def split(self, start: int, end: int, *, named: bool) -> Iterator[str]:
        """Say a range that runs over the end of the field as two that do not."""
        for first, last in ((start, self.last), (self.first, end)):
            if first <= last:
                ends = (first,) if first == last else (first, last)
                yield "-".join(
                    self.names[value - self.first].upper() if named else str(value)
                    for value in ends
                )


MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
FIELDS: Final = (
    Field("minute", 0, 59, 59),
    Field("hour", 0, 23, 23),
    Field("day of month", 1, 31, 31),
    Field("month", 1, 12, 12, MONTHS),
    Field("day of week", 0, 6, 7, WEEKDAYS),
)
