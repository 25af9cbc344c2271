"""Walk the slots of an expression through the real time of one zone.

Minutes are counted from the start of the year 1, days likewise: in UTC, or on the wall of the
zone, where the same count reads as the time that the clock shows.
"""

from bisect import bisect_left, bisect_right
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import islice
from typing import Final, NamedTuple

from oban.cron.expression import Fields, read
from oban.cron.zones import zone_named
from oban.errors import InvalidOption

START: Final = datetime.min.replace(tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)
DAY: Final = 24 * 60
LAST_DAY: Final = date.max.toordinal() - 1
LAST_MINUTE: Final = LAST_DAY * DAY + DAY - 1


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression on the wall clock of one zone, and the slots it yields.

    The fields are minute, hour, day of month, month and day of week. A day must fit all three of
    its fields: when day of month and day of week are both restricted, BOTH must match, as in Oban
    for Elixir, where Vixie cron runs if one of them does. How changes of the clock are treated
    stands at the top of `oban.cron`. Slots are aware, in UTC, at whole minutes.

    Raises InvalidOption for an expression that is wrong or never runs and for an unknown zone;
    its methods raise it for datetimes that name no time zone.
    """

    expr: str
    timezone: str = "UTC"
    fields: Fields | None = field(init=False, repr=False, compare=False)
    zone: tzinfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", read(self.expr))
        object.__setattr__(self, "zone", zone_named(self.timezone))

    @classmethod
    def parse(cls, expr: str, timezone: str = "UTC") -> "Cron":
        return cls(expr, timezone)

    @property
    def reboot(self) -> bool:
        """Whether this is `@reboot`, which has no slots: it runs when a node starts."""
        return self.fields is None

    def next(self, after: datetime) -> datetime | None:
        """The first slot later than `after`; None if the years up to 9999 hold none."""
        return next(self.slots(minute_of("after", after) + 1, LAST_MINUTE), None)

    def previous(self, at: datetime) -> datetime | None:
        """The latest slot not later than `at`; None if the years from 1 on hold none."""
        last = minute_of("at", at)
        found = None if self.fields is None else latest_slot(self.fields, self.zone, last)
        return None if found is None else START + found * MINUTE

    def between(
        self, after: datetime, until: datetime, limit: int | None = None
    ) -> Iterator[datetime]:
        """The slots later than `after` and not later than `until`, ascending, found as asked for.

        With `limit` the first so many of them.
        """
        if limit is not None and (type(limit) is not int or limit < 0):
            raise InvalidOption(f"limit is {limit!r:.80}; it is a whole number from 0 on, or None")
        first, last = minute_of("after", after) + 1, minute_of("until", until)
        return islice(self.slots(first, last), limit)

    def slots(self, first: int, last: int) -> Iterator[datetime]:
        if self.fields is not None:
            for minute in slots(self.fields, self.zone, first, last):
                yield START + minute * MINUTE


def minute_of(name: str, moment: object) -> int:
    """The minute of UTC that `moment` lies in; it may lie outside of the years 1 to 9999."""
    offset = moment.utcoffset() if isinstance(moment, datetime) else None
    if not isinstance(moment, datetime) or offset is None:
        raise InvalidOption(
            f"{name} is {moment!r:.80}; it is an aware datetime, such as datetime.now(timezone.utc)"
        )
    return (moment.replace(tzinfo=UTC) - START - offset) // MINUTE


def slots(fields: Fields, zone: tzinfo, first: int, last: int) -> Iterator[int]:
    """The minutes from `first` to `last` that are slots, ascending, one day of UTC at a time.

    The wall shows a time at most a day away from UTC, so days that do not fit are jumped over.
    """
    first, last = max(first, 0), min(last, LAST_MINUTE)
    found = -1
    while (day := first_day(fields, first // DAY - 1)) is not None:
        first = max(first, (day - 1) * DAY)
        if first > last:
            return
        for begin, shift, low, high in stretches(zone, first // DAY, fields.every_hour):
            if begin > last:
                return
            reached = low if first <= begin else max(low, first + shift)
            for time in times(fields, reached, min(high, last + shift)):
                slot = max(time - shift, begin)
                if slot > found:
                    yield slot
                    found = slot
        first = (first // DAY + 1) * DAY


def latest_slot(fields: Fields, zone: tzinfo, at: int) -> int | None:
    """The same walk backwards, to the first slot met."""
    at = min(at, LAST_MINUTE)
    while at >= 0 and (day := last_day(fields, at // DAY + 1)) is not None:
        at = min(at, (day + 2) * DAY - 1)
        for begin, shift, low, high in reversed(stretches(zone, at // DAY, fields.every_hour)):
            if begin <= at:
                time = latest_time(fields, low, min(high, at + shift))
                if time is not None:
                    return max(time - shift, begin)
        at = at // DAY * DAY - 1
    return None


class Stretch(NamedTuple):
    """Minutes from `first` on with one `shift` to the wall, and the times due in them.

    The times `low` to `high` are those the wall shows, but for an entry that names hours: then
    they are those it reaches for the first time, those skipped by the change before included.
    """

    first: int
    shift: int
    low: int
    high: int


@lru_cache(maxsize=4096)
def stretches(zone: tzinfo, day: int, every_hour: bool) -> tuple[Stretch, ...]:
    """What a day of UTC is made of. Kept: the entries of a crontab ask for the same few days."""
    first = day * DAY
    # No clock was ever set back by more than a day, so one day tells what it has shown before.
    reached = max(end + shift for _, end, shift in steady(zone, first - DAY, first - 1))
    found = []
    for start, end, shift in steady(zone, first, first + DAY - 1):
        low = start + shift if every_hour else reached + 1
        found.append(Stretch(start, shift, low, end + shift))
        reached = max(reached, end + shift)
    return tuple(found)


def steady(zone: tzinfo, first: int, last: int) -> Iterator[tuple[int, int, int]]:
    """Cut `first` to `last`, at most a day, into parts of one shift: first, last, shift.

    The zone tells its shift at a moment, not when it changes, so changes are closed in by halves.
    That a change is undone within a day never happens: in the data of all zones the shortest
    time to the next change is four days.
    """
    shift = shift_at(zone, first)
    if shift == shift_at(zone, last):
        yield first, last, shift
    else:
        middle = (first + last) // 2
        yield from steady(zone, first, middle)
        yield from steady(zone, middle + 1, last)


def shift_at(zone: tzinfo, minute: int) -> int:
    """Minutes from UTC to the wall, rounded down as a clock without a hand for seconds does."""
    within = min(max(minute, DAY), LAST_MINUTE - DAY)  # else the wall may leave the calendar
    offset = (START + within * MINUTE).astimezone(zone).utcoffset()
    assert offset is not None
    return offset // MINUTE


def times(fields: Fields, low: int, high: int) -> Iterator[int]:
    """The times from `low` to `high` that fit, ascending."""
    for day in range(low // DAY, high // DAY + 1):
        if fits(fields, day):
            begin = bisect_left(fields.times, low - day * DAY)
            end = bisect_right(fields.times, high - day * DAY)
            yield from (day * DAY + time for time in fields.times[begin:end])


def latest_time(fields: Fields, low: int, high: int) -> int | None:
    for day in range(high // DAY, low // DAY - 1, -1):
        count = bisect_right(fields.times, high - day * DAY)
        if count and fits(fields, day):
            time = day * DAY + fields.times[count - 1]
            return time if time >= low else None
    return None


def fits(fields: Fields, day: int) -> bool:
    if not 0 <= day <= LAST_DAY:
        return False
    known = date.fromordinal(day + 1)
    return (
        known.month in fields.months
        and known.day in fields.days
        and (day + 1) % 7 in fields.weekdays
    )


def first_day(fields: Fields, day: int) -> int | None:
    """The first day that fits, from `day` on."""
    for month in range(month_of(day), 9999 * 12):
        if month % 12 + 1 in fields.months:
            found = fitting_days(fields.days, fields.weekdays, month)
            if (place := bisect_left(found, day)) < len(found):
                return found[place]
    return None


def last_day(fields: Fields, day: int) -> int | None:
    """The last day that fits, up to `day`."""
    for month in range(month_of(day), -1, -1):
        if month % 12 + 1 in fields.months:
            found = fitting_days(fields.days, fields.weekdays, month)
            if place := bisect_right(found, day):
                return found[place - 1]
    return None


def month_of(day: int) -> int:
    """Months since the start of the year 1, the nearest if the calendar does not have the day."""
    known = date.fromordinal(min(max(day, 0), LAST_DAY) + 1)
    return (known.year - 1) * 12 + known.month - 1


@lru_cache(maxsize=1024)
def fitting_days(days: tuple[int, ...], weekdays: frozenset[int], month: int) -> tuple[int, ...]:
    year, month = month // 12 + 1, month % 12 + 1
    first = date(year, month, 1).toordinal()
    length = monthrange(year, month)[1]
    ordinals = [first + day - 1 for day in days if day <= length]
    return tuple(ordinal - 1 for ordinal in ordinals if ordinal % 7 in weekdays)
