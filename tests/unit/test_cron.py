import copy
import pickle
from bisect import bisect_left
from calendar import monthrange
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from functools import cache
from itertools import count, pairwise
from operator import add
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import oban.cron
from oban.cron import Cron
from oban.cron import calendar as cron_calendar
from oban.errors import InvalidOption

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def runs(expr: str, zone: str, after: str, until: str) -> list[str]:
    """The slots, both ends and the result in UTC."""
    found = Cron.parse(expr, zone).between(utc(after), utc(until))
    return [f"{slot:%Y-%m-%d %H:%M}" for slot in found]


def times(expr: str, zone: str, day: str) -> list[str]:
    """The slots of one day of UTC."""
    midnight = utc(day)
    found = Cron.parse(expr, zone).between(midnight - MINUTE, midnight + DAY - MINUTE)
    return [f"{slot:%H:%M}" for slot in found]


def refusal(expr: Any, zone: Any = "UTC") -> str:
    with pytest.raises(InvalidOption) as caught:
        Cron.parse(expr, zone)
    return str(caught.value)


def test_the_package_exports_cron_alone() -> None:
    assert oban.cron.__all__ == ["Cron"]


@pytest.mark.parametrize(
    ("field", "minutes"),
    [
        ("5", [5]),
        ("05", [5]),
        ("0,30,15,30", [0, 15, 30]),
        ("10-13", [10, 11, 12, 13]),
        ("59-59", [59]),
        ("*/15", [0, 15, 30, 45]),
        ("*/60", [0]),
        ("1-30/5", [1, 6, 11, 16, 21, 26]),
        ("5/15", [5, 20, 35, 50]),
        ("58/1", [58, 59]),
        ("3,10-12,*/30", [0, 3, 10, 11, 12, 30]),
        ("*", list(range(60))),
    ],
)
def test_a_field_takes_numbers_lists_ranges_and_steps(field: str, minutes: list[int]) -> None:
    assert times(f"{field} 7 * * *", "UTC", "2024-05-01") == [f"07:{each:02}" for each in minutes]


@pytest.mark.parametrize(
    ("field", "days"),
    [
        ("*", [1, 2, 3, 4, 5, 6, 7]),
        ("0", [7]),
        ("7", [7]),
        ("sun", [7]),
        ("1-5", [1, 2, 3, 4, 5]),
        ("mon-FRI", [1, 2, 3, 4, 5]),
        ("5-7", [5, 6, 7]),
        ("0-7", [1, 2, 3, 4, 5, 6, 7]),
        ("Sat,6,7,0", [6, 7]),
        ("*/2", [2, 4, 6, 7]),
        ("5/1", [5, 6]),
        ("7/2", [7]),
        ("TUE-6/2", [2, 4, 6]),
    ],
)
def test_weekdays_count_from_sunday_which_is_seven_too(field: str, days: list[int]) -> None:
    """The first of July 2024 was a Monday."""
    found = runs(f"0 0 * * {field}", "UTC", "2024-06-30 12:00", "2024-07-07 12:00")
    assert [int(slot[8:10]) for slot in found] == days


@pytest.mark.parametrize(
    ("field", "months"),
    [
        ("JAN", [1]),
        ("feb-Apr", [2, 3, 4]),
        ("*/6", [1, 7]),
        ("10/1", [10, 11, 12]),
        ("3,may", [3, 5]),
    ],
)
def test_months_have_names_in_any_case(field: str, months: list[int]) -> None:
    found = runs(f"0 0 1 {field} *", "UTC", "2023-12-31", "2024-12-31")
    assert [int(slot[5:7]) for slot in found] == months


@pytest.mark.parametrize(
    ("nickname", "slots"),
    [
        ("@yearly", ["2025-01-01 00:00", "2026-01-01 00:00"]),
        ("@Annually", ["2025-01-01 00:00", "2026-01-01 00:00"]),
        ("@monthly", ["2024-06-01 00:00", "2024-07-01 00:00"]),
        ("@WEEKLY", ["2024-05-05 00:00", "2024-05-12 00:00"]),
        ("@daily", ["2024-05-02 00:00", "2024-05-03 00:00"]),
        (" @midnight\n", ["2024-05-02 00:00", "2024-05-03 00:00"]),
        ("@hourly", ["2024-05-01 10:00", "2024-05-01 11:00"]),
    ],
)
def test_a_nickname_stands_for_an_expression(nickname: str, slots: list[str]) -> None:
    found = Cron.parse(nickname).between(utc("2024-05-01 09:30"), LATEST, limit=2)
    assert [f"{slot:%Y-%m-%d %H:%M}" for slot in found] == slots


@pytest.mark.parametrize("nickname", ["@reboot", "@REBOOT", " @reboot "])
def test_reboot_has_no_slots(nickname: str) -> None:
    cron = Cron.parse(nickname, "Europe/London")
    assert cron.reboot
    assert cron.next(utc("2024-01-01")) is None
    assert cron.previous(utc("2024-01-01")) is None
    assert list(cron.between(EARLIEST, LATEST)) == []
    assert not Cron.parse("@hourly").reboot


def test_white_space_around_and_between_fields_is_ignored() -> None:
    assert times("  30\t4   * *\n * ", "UTC", "2024-05-01") == ["04:30"]


def test_day_of_month_and_day_of_week_must_both_match() -> None:
    found = runs("0 0 13 * FRI", "UTC", "2024-01-01", "2025-12-31")
    assert [slot[:10] for slot in found] == ["2024-09-13", "2024-12-13", "2025-06-13"]


def test_a_cron_is_a_value_that_keeps_what_was_written() -> None:
    cron = Cron.parse(" 0 9 * *  mon ", "Asia/Kathmandu")
    assert (cron.expr, cron.timezone) == (" 0 9 * *  mon ", "Asia/Kathmandu")
    assert repr(cron) == "Cron(expr=' 0 9 * *  mon ', timezone='Asia/Kathmandu')"
    assert cron == Cron(" 0 9 * *  mon ", "Asia/Kathmandu")
    assert cron != Cron(" 0 9 * *  mon ")
    assert len({cron, Cron.parse(cron.expr, cron.timezone)}) == 1
    for twin in (pickle.loads(pickle.dumps(cron)), copy.deepcopy(cron)):
        assert twin == cron
        assert twin.next(utc("2024-01-01")) == cron.next(utc("2024-01-01"))
    with pytest.raises(AttributeError):
        cron.expr = "* * * * *"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        ("60 * * * *", "cron '60 * * * *': minute is '60'; it is a number from 0 to 59"),
        ("1-60 * * * *", "minute is '1-60', wrong at '60'; it is a number from 0 to 59"),
        ("1,x * * * *", "minute is '1,X', wrong at 'X'; it is a number from 0 to 59"),
        ("1,,2 * * * *", "minute is '1,,2', wrong at ''; it is a number"),
        ("-5 * * * *", "minute is '-5', wrong at ''; it is a number"),
        ("1-2-3 * * * *", "minute is '1-2-3', wrong at '2-3'; it is a number"),
        ("*-5 * * * *", "minute is '*-5', wrong at '*'; it is a number"),
        ("+5 * * * *", "minute is '+5'; it is a number"),
        ("\N{ARABIC-INDIC DIGIT THREE} * * * *", "it is a number from 0 to 59"),
        ("* 24 * * *", "hour is '24'; it is a number from 0 to 23"),
        ("* * 0 * *", "day of month is '0'; it is a number from 1 to 31"),
        ("* * L * *", "day of month is 'L'; it is a number from 1 to 31"),
        ("* * * 13 *", "month is '13'; it is a number from 1 to 12 or one of JAN FEB MAR"),
        ("* * * sept *", "NOV DEC; did you mean SEP?"),
        ("* * * * 8", "day of week is '8'; it is a number from 0 to 7 (0 and 7 are Sunday)"),
        ("* * * * MONN", "or one of SUN MON TUE WED THU FRI SAT; did you mean MON?"),
        ("* * * * mon-wednesday", "wrong at 'WEDNESDAY'; it is a number from 0 to 7"),
        ("* * * * wednesday", "did you mean WED?"),
    ],
)
def test_a_wrong_value_is_named_with_its_field_and_what_is_accepted(
    expr: str, message: str
) -> None:
    assert message in refusal(expr)


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        ("*/0 * * * *", "minute is '*/0'; its step, after the /, is a number from 1 to 60"),
        ("5,*/0 * * * *", "wrong at '*/0'; its step"),
        ("*/61 * * * *", "from 1 to 60"),
        ("* */25 * * *", "hour is '*/25'; its step, after the /, is a number from 1 to 24"),
        ("*/ * * * *", "its step, after the /, is a number"),
        ("*/5/5 * * * *", "its step, after the /, is a number"),
        ("*/-5 * * * *", "its step, after the /, is a number"),
    ],
)
def test_a_step_that_is_none_or_longer_than_its_field_is_refused(expr: str, message: str) -> None:
    assert message in refusal(expr)


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        ("* * * * FRI-MON", "day of week is 'FRI-MON'; it runs backwards: write FRI-SAT,SUN-MON"),
        ("* * * * fri-sun", "it runs backwards: write FRI-SAT,SUN"),
        ("* * * * 5-1/2", "wrong at '5-1'; it runs backwards: write 5-6,0-1"),
        ("* * * * 7-2", "it runs backwards: write 0-2"),
        ("* 22-2 * * *", "hour is '22-2'; it runs backwards: write 22-23,0-2"),
        ("* * * dec-jan *", "it runs backwards: write DEC,JAN"),
        ("* * 30-2 * *", "it runs backwards: write 30-31,1-2"),
    ],
)
def test_a_range_that_runs_backwards_is_refused_with_the_two_to_write(
    expr: str, message: str
) -> None:
    assert message in refusal(expr)
    advised = message.rpartition("write ")[2]
    field = next(field for field in expr.split() if field != "*")
    Cron.parse(expr.replace(field, advised))


def test_more_fields_than_five_are_refused_because_seconds_are_not_supported() -> None:
    message = refusal("0 30 9 * * MON")
    assert "has 6 fields; it has five, seconds are not supported" in message
    assert "minute hour day-of-month month day-of-week, such as '30 9 * * MON-FRI'" in message


@pytest.mark.parametrize(("expr", "count"), [("", 0), ("  ", 0), ("*", 1), ("* * * *", 4)])
def test_fewer_fields_than_five_are_refused(expr: str, count: int) -> None:
    message = refusal(expr)
    assert f"has {count} fields; it has five: minute hour day-of-month" in message
    assert "seconds" not in message


def test_an_unknown_nickname_is_refused_with_the_list() -> None:
    assert refusal("@dayly") == (
        "cron is '@dayly'; the nicknames are @yearly @annually @monthly @weekly @daily @midnight "
        "@hourly @reboot; did you mean @daily?"
    )
    assert "did you mean @reboot?" in refusal("@boot")
    assert "the nicknames are" in refusal("@")
    assert "the nicknames are" in refusal("@daily 5")


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        ("0 0 30 2 *", "never runs: the longest month it names has 29 days, and the first day"),
        ("0 0 30,31 FEB MON", "the longest month it names has 29 days"),
        ("0 0 31 4,6,9,11 *", "the longest month it names has 30 days"),
        ("* * 31 2-2,4 SUN", "and the first day it names is 31"),
    ],
)
def test_an_expression_that_never_runs_is_refused(expr: str, message: str) -> None:
    assert message in refusal(expr)


def test_every_day_that_a_month_can_have_is_on_every_weekday_some_time() -> None:
    """So nothing that never runs is accepted."""
    after = utc("2000-01-01")
    for ordinal in range(366):
        day = after + ordinal * DAY
        for weekday in range(7):
            slot = Cron.parse(f"0 0 {day.day} {day.month} {weekday}").next(after)
            assert slot is not None
            assert (slot.month, slot.day) == (day.month, day.day)
            assert slot.isoweekday() % 7 == weekday


@pytest.mark.parametrize("expr", [None, 5, b"* * * * *", ["*"] * 5])
def test_an_expression_that_is_no_text_is_refused(expr: object) -> None:
    assert refusal(expr) == f"cron is {expr!r}; it is an expression such as '*/5 * * * *'"


def test_an_expression_has_a_greatest_length() -> None:
    assert Cron.parse("* * * * *".ljust(255))
    message = refusal("*" * 256)
    assert "has 256 characters; at most 255 are accepted" in message
    assert len(refusal("*" * 10**6)) < 200


@settings(deadline=2000)
@given(expr=st.text(st.sampled_from("0159*/-, \t@afmnorsuAJL?#\N{KELVIN SIGN}"), max_size=300))
def test_any_text_is_an_expression_or_refused_by_its_own_error(expr: str) -> None:
    try:
        cron = Cron.parse(expr)
    except InvalidOption:
        pass
    else:
        assert cron.reboot or cron.next(utc("2024-01-01")) is not None


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("Europe/Londn", "; did you mean 'Europe/London'?"),
        ("europe/PARIS", "; did you mean 'Europe/Paris'?"),
        ("New York", "; did you mean 'America/New_York'?"),
        ("Europe/London/", "; did you mean 'Europe/London'?"),
        ("", ""),
        ("../etc/passwd", ""),
        ("/etc/passwd", ""),
        ("..", ""),
        ("a\0b", ""),
        ("\ud800", ""),
        (None, ""),
        (UTC, ""),
        (["UTC"], ""),
    ],
)
def test_an_unknown_zone_is_refused_with_the_nearest(zone: object, hint: str) -> None:
    expected = f"timezone is {zone!r:.80}; it is the name of a time zone, such as 'Europe/London'"
    assert refusal("* * * * *", zone) == expected + hint


@pytest.mark.parametrize("zone", ["Europe", "zone.tab", "x" * 10**6])
def test_a_folder_or_another_file_is_no_zone(zone: str) -> None:
    assert len(refusal("* * * * *", zone)) < 250


def test_where_no_zone_is_known_only_utc_is_and_the_refusal_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(name: str) -> ZoneInfo:
        raise KeyError(name)

    monkeypatch.setattr("oban.cron.zones.ZoneInfo", unknown)
    monkeypatch.setattr("oban.cron.zones.available_timezones", set)
    assert Cron.parse("@daily").next(utc("2024-01-01")) == utc("2024-01-02")
    assert refusal("@daily", "Europe/London").endswith(
        "no time zone data is installed here: pip install tzdata"
    )


@pytest.mark.parametrize("moment", [datetime(2024, 1, 1), date(2024, 1, 1), None, "2024-01-01"])
def test_a_moment_without_a_zone_is_refused(moment: Any) -> None:
    cron = Cron.parse("@hourly")
    known = utc("2024-01-01")
    calls: dict[str, list[Callable[[], object]]] = {
        "after": [lambda: cron.next(moment), lambda: cron.between(moment, known)],
        "at": [lambda: cron.previous(moment)],
        "until": [lambda: cron.between(known, moment)],
    }
    for name, uses in calls.items():
        for use in uses:
            with pytest.raises(InvalidOption) as caught:
                use()
            assert str(caught.value) == (
                f"{name} is {moment!r}; it is an aware datetime, such as datetime.now(timezone.utc)"
            )


@pytest.mark.parametrize("limit", [-1, True, 1.5, "2"])
def test_a_limit_that_is_no_count_is_refused(limit: Any) -> None:
    with pytest.raises(
        InvalidOption, match=r"^limit is .*; it is a whole number from 0 on, or None$"
    ):
        Cron.parse("@hourly").between(EARLIEST, LATEST, limit)


def test_next_is_strictly_after_and_previous_may_be_at_the_moment() -> None:
    cron = Cron.parse("*/10 * * * *")
    slot = utc("2024-05-01 10:10")
    second = timedelta(microseconds=1)
    assert cron.next(slot) == slot + 10 * MINUTE
    assert cron.next(slot - second) == slot
    assert cron.next(slot + second) == slot + 10 * MINUTE
    assert cron.previous(slot) == slot
    assert cron.previous(slot - second) == slot - 10 * MINUTE
    assert cron.previous(slot + second) == slot


def test_between_leaves_out_its_start_and_includes_its_end() -> None:
    hours = [f"2024-05-01 {hour}:00" for hour in (11, 12)]
    assert runs("@hourly", "UTC", "2024-05-01 10:00", "2024-05-01 12:00") == hours
    assert runs("@hourly", "UTC", "2024-05-01 12:00", "2024-05-01 12:00") == []
    assert runs("@hourly", "UTC", "2024-05-01 12:00", "2024-05-01 10:00") == []


def test_between_is_lazy_and_stops_at_its_limit() -> None:
    cron = Cron.parse("* * * * *")
    slots = cron.between(EARLIEST, LATEST)
    assert isinstance(slots, Iterator)
    assert next(slots) == EARLIEST + MINUTE
    assert list(cron.between(EARLIEST, LATEST, 2)) == [EARLIEST + MINUTE, EARLIEST + 2 * MINUTE]
    assert list(cron.between(EARLIEST, LATEST, limit=0)) == []


def test_moments_of_any_zone_are_taken_and_slots_are_utc() -> None:
    cron = Cron.parse("0 9 * * *", "Asia/Kathmandu")
    after = datetime(2024, 5, 1, 8, 59, tzinfo=ZoneInfo("Asia/Kathmandu"))
    slot = cron.next(after)
    assert slot == utc("2024-05-01 03:15")
    assert slot.tzinfo is UTC
    assert cron.next(after.astimezone(ZoneInfo("America/New_York"))) == slot
    before = cron.previous(after)
    assert before == utc("2024-04-30 03:15")
    assert before.tzinfo is UTC
    assert next(cron.between(after, after + DAY)).tzinfo is UTC


def test_a_moment_in_the_second_of_two_equal_hours_is_told_from_the_first() -> None:
    zone = ZoneInfo("Europe/London")
    cron = Cron.parse("30 * * * *", "Europe/London")
    first = datetime(2024, 10, 27, 1, 15, tzinfo=zone)
    assert cron.next(first) == utc("2024-10-27 00:30")
    assert cron.next(first.replace(fold=1)) == utc("2024-10-27 01:30")


def test_leap_days_are_found_decades_away() -> None:
    assert Cron.parse("0 0 29 2 *").next(utc("2096-03-01")) == utc("2104-02-29")
    monday = Cron.parse("0 0 29 2 MON")
    assert monday.next(utc("2072-03-01")) == utc("2112-02-29")
    assert monday.previous(utc("2112-02-28")) == utc("2072-02-29")


@pytest.mark.parametrize("expr", ["0 0 29 2 MON", "59 23 31 12 *", "* * 29 2 MON", "@daily"])
def test_a_far_slot_costs_no_more_questions_to_the_zone_than_a_near_one(
    expr: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    shift_at = cron_calendar.shift_at

    def counted(*args: Any) -> int:
        nonlocal asked
        asked += 1
        return shift_at(*args)

    monkeypatch.setattr(cron_calendar, "shift_at", counted)
    cron_calendar.stretches.cache_clear()
    cron = Cron.parse(expr, "Europe/London")
    cron.next(utc("2072-03-01"))
    cron.previous(utc("2112-02-28"))
    assert 0 < asked <= 24


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo", "Pacific/Kiritimati"])
@pytest.mark.parametrize("expr", ["* * * * *", "* 0-22 * * *", "@yearly", "0 0 29 2 MON"])
@pytest.mark.parametrize("offset", [-14, 0, 14])
def test_the_ends_of_time_yield_none_and_never_an_error(expr: str, zone: str, offset: int) -> None:
    cron = Cron.parse(expr, zone)
    there = timezone(timedelta(hours=offset))
    first, last = datetime.min.replace(tzinfo=there), datetime.max.replace(tzinfo=there)
    for moment in (first, first + DAY, last - DAY, last):
        after, before = cron.next(moment), cron.previous(moment)
        assert after is None or after > moment
        assert before is None or before <= moment
    assert cron.next(LATEST) is None
    assert cron.previous(EARLIEST) in (None, EARLIEST)
    assert all(last - DAY < slot <= last for slot in cron.between(last - DAY, last))
    assert list(cron.between(last, first)) == []


def test_the_last_and_the_first_minute_of_time_are_slots_like_others() -> None:
    cron = Cron.parse("* * * * *")
    last = LATEST.replace(second=0, microsecond=0)
    assert cron.previous(LATEST) == cron.next(last - MINUTE) == last
    assert cron.next(last) is None
    assert cron.previous(EARLIEST) == EARLIEST
    assert cron.next(datetime.min.replace(tzinfo=timezone(HOUR))) == EARLIEST


@pytest.mark.parametrize(
    ("expr", "slots"),
    [
        ("30 2 * * *", ["07:00"]),
        ("*/10 2 * * *", ["07:00"]),
        ("0 2,3 * * *", ["07:00"]),
        ("30 1-3 * * *", ["06:30", "07:00", "07:30"]),
        ("59 2 10 3 SUN", ["07:00"]),
        ("30 3 * * *", ["07:30"]),
        ("30 2 11 3 *", []),
    ],
)
def test_a_named_time_that_is_skipped_runs_once_at_the_moment_after_the_gap(
    expr: str, slots: list[str]
) -> None:
    """New York's clocks went forward at 07:00 UTC."""
    assert times(expr, "America/New_York", "2024-03-10") == slots


@pytest.mark.parametrize(
    ("expr", "slots"),
    [
        ("30 1 * * *", ["05:30"]),
        ("*/30 1-2 * * *", ["05:00", "05:30", "07:00", "07:30"]),
        ("0 0,1,2 3 11 *", ["04:00", "05:00", "07:00"]),
        ("*/30 0-1 * * *", ["04:00", "04:30", "05:00", "05:30"]),
        ("0 0-22 * * *", [f"{hour:02}:00" for hour in range(24) if hour not in (3, 6)]),
    ],
)
def test_a_named_time_that_comes_twice_runs_the_first_time(expr: str, slots: list[str]) -> None:
    """New York's clocks went back at 06:00 UTC."""
    assert times(expr, "America/New_York", "2024-11-03") == slots


@pytest.mark.parametrize("hours", ["*", "0-23", "*/1", "0-11,12-23"])
def test_an_entry_of_every_hour_follows_real_time(hours: str) -> None:
    expr, zone = f"30 {hours} * * *", "America/New_York"
    assert times(expr, zone, "2024-03-10") == [f"{hour:02}:30" for hour in range(24)]
    assert times(expr, zone, "2024-11-03") == [f"{hour:02}:30" for hour in range(24)]
    day = runs(f"30 {hours} 3 11 *", zone, "2024-01-01", "2024-12-31")
    assert (len(day), day[0], day[-1]) == (25, "2024-11-03 04:30", "2024-11-04 04:30")
    assert len(runs(f"30 {hours} 10 3 *", zone, "2024-01-01", "2024-12-31")) == 23


def test_previous_obeys_the_same_rule() -> None:
    named = Cron.parse("30 1,2 * * *", "America/New_York")
    assert named.previous(utc("2024-03-10 07:45")) == utc("2024-03-10 07:00")
    assert named.previous(utc("2024-03-10 06:59")) == utc("2024-03-10 06:30")
    assert named.previous(utc("2024-11-03 06:45")) == utc("2024-11-03 05:30")
    every = Cron.parse("30 * * * *", "America/New_York")
    assert every.previous(utc("2024-03-10 07:15")) == utc("2024-03-10 06:30")
    assert every.previous(utc("2024-11-03 06:45")) == utc("2024-11-03 06:30")


def test_half_an_hour_is_skipped_and_repeated_at_lord_howe() -> None:
    zone = "Australia/Lord_Howe"
    assert times("10,20,40 2 * * *", zone, "2024-10-05") == ["15:30", "15:40"]
    around = ("2024-10-05 14:50", "2024-10-05 16:20")
    assert runs("10,40 * * * *", zone, *around) == [
        "2024-10-05 15:10",
        "2024-10-05 15:40",
        "2024-10-05 16:10",
    ]
    assert runs("45 1 * * *", zone, "2024-04-06", "2024-04-07") == ["2024-04-06 14:45"]
    assert runs("45 1-1 * * *", zone, "2024-04-06", "2024-04-07") == ["2024-04-06 14:45"]
    found = runs("45 * * * *", zone, "2024-04-06 14:00", "2024-04-06 16:30")
    assert found == ["2024-04-06 14:45", "2024-04-06 15:15", "2024-04-06 16:15"]


def test_a_day_left_out_at_apia_runs_its_named_times_once_after_the_gap() -> None:
    """There was no 30 December 2011; the 31st began at 10:00 UTC of the 30th."""
    zone, around = "Pacific/Apia", ("2011-12-29", "2012-01-01")
    assert runs("0 9 30 12 *", zone, *around) == ["2011-12-30 10:00"]
    assert runs("*/5 8-20 30 12 *", zone, *around) == ["2011-12-30 10:00"]
    assert runs("0 0 * * *", zone, *around) == [
        "2011-12-29 10:00",
        "2011-12-30 10:00",
        "2011-12-31 10:00",
    ]
    assert runs("0 0 30 * FRI", zone, *around) == ["2011-12-30 10:00"]
    assert runs("0 * 30 12 *", zone, *around) == []


def test_a_day_shown_twice_at_apia_runs_its_named_times_once() -> None:
    """The fourth of July 1892 came twice."""
    zone, around = "Pacific/Apia", ("1892-07-01", "1892-07-10")
    assert len(runs("0 9 4 7 *", zone, *around)) == 1
    assert len(runs("0 9,12 4 7 *", zone, *around)) == 2
    assert len(runs("0 * 4 7 *", zone, *around)) == 48
    assert len(runs("0 9 * * *", zone, *around)) == 8


def test_a_time_is_known_to_have_been_shown_for_as_long_as_a_clock_was_ever_set_back() -> None:
    cron = Cron.parse("59 23 4 7 *", "Pacific/Apia")
    slot = cron.next(utc("1892-07-01"))
    assert slot is not None
    for later in (MINUTE, HOUR, 12 * HOUR, DAY - MINUTE, DAY):
        following = cron.next(slot + later)
        assert following is not None
        assert following.year == 1893
        assert cron.previous(slot + later) == slot


def test_midnight_that_is_skipped_or_comes_twice_is_one_slot() -> None:
    assert times("0 0 * * *", "America/Havana", "2024-03-10") == ["05:00"]
    assert times("@weekly", "America/Havana", "2024-03-10") == ["05:00"]
    assert times("0 0 * * *", "America/Havana", "2024-11-03") == ["04:00"]
    assert times("@hourly", "America/Havana", "2024-11-03") == [f"{h:02}:00" for h in range(24)]
    assert times("0 0 31 3 *", "Asia/Beirut", "2024-03-30") == ["22:00"]
    assert times("30 23 * * *", "Asia/Beirut", "2024-10-26") == ["20:30"]
    assert times("30 * 26 10 *", "Asia/Beirut", "2024-10-26")[-2:] == ["20:30", "21:30"]


def test_days_may_come_back_for_an_hour() -> None:
    """At Saint John's clocks went from 00:01 to 23:01 of the day before, at 02:31 UTC."""
    zone = "America/St_Johns"
    assert runs("0 0 7 11 *", zone, "2010-11-01", "2010-11-30") == ["2010-11-07 02:30"]
    found = runs("0 * 7 11 *", zone, "2010-11-01", "2010-11-30")
    assert (len(found), found[:2]) == (25, ["2010-11-07 02:30", "2010-11-07 03:30"])
    found = runs("59 * 6 11 *", zone, "2010-11-01", "2010-11-30")
    assert (len(found), found[-2:]) == (25, ["2010-11-07 02:29", "2010-11-07 03:29"])


def test_ramadan_and_two_hours_at_once() -> None:
    assert times("30 2 * * *", "Africa/Casablanca", "2024-03-10") == ["01:30"]
    assert times("30 2 * * *", "Africa/Casablanca", "2024-04-14") == ["02:00"]
    assert times("0 2,3 * * *", "Antarctica/Troll", "2024-03-31") == ["01:00"]
    assert times("0 1,2,3 * * *", "Antarctica/Troll", "2024-10-27") == ["00:00", "03:00"]


def test_slots_are_whole_minutes_where_the_offset_holds_seconds() -> None:
    """The first whole minute of UTC at which the clock shows the time."""
    assert times("0 9 * * *", "Africa/Monrovia", "1970-06-01") == ["09:45"]
    assert times("0 9-10 * * *", "Europe/London", "1840-06-01") == ["09:02", "10:02"]
    assert times("0 * * * *", "Europe/London", "1840-06-01")[9:11] == ["09:02", "10:02"]


ZONES = (
    "UTC",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/Monrovia",
    "America/Havana",
    "America/Juneau",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Casey",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Manila",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Europe/Amsterdam",
    "Europe/Dublin",
    "Europe/London",
    "Pacific/Apia",
    "Pacific/Kwajalein",
)
MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec"
WEEKDAYS = "sun mon tue wed thu fri sat"


class Entry(NamedTuple):
    """An expression together with the values that each of its fields was made from."""

    expr: str
    minutes: set[int]
    hours: set[int]
    days: set[int]
    months: set[int]
    weekdays: set[int]

    def fits_day(self, day: date) -> bool:
        return (
            day.day in self.days
            and day.month in self.months
            and day.isoweekday() % 7 in self.weekdays
        )


Part = tuple[str, set[int]]


@st.composite
def items(draw: st.DrawFn, first: int, last: int, names: str) -> Part:
    """One item of a field, and the values it means."""
    low, high = sorted((draw(st.integers(first, last)), draw(st.integers(first, last))))
    step = draw(st.integers(1, last - first + 1))
    start, end = str(low), str(high)
    if names and draw(st.booleans()):
        start, end = names.split()[low - first], names.split()[high - first].upper()
    meanings = [
        (start, range(low, low + 1)),
        (f"{start}-{end}", range(low, high + 1)),
        (f"*/{step}", range(first, last + 1, step)),
        (f"{start}/{step}", range(low, last + 1, step)),
        (f"{start}-{end}/{step}", range(low, high + 1, step)),
    ]
    text, values = draw(st.sampled_from(meanings))
    return text, set(values)


def joined(parts: list[Part]) -> Part:
    return ",".join(text for text, _ in parts), {value for _, held in parts for value in held}


def fields(first: int, last: int, names: str = "") -> st.SearchStrategy[Part]:
    """Anything in every third, else a star, or few entries would run near a given moment."""
    star = ("*", set(range(first, last + 1)))
    some = st.lists(items(first, last, names), min_size=1, max_size=3).map(joined)
    return st.one_of(st.just(star), st.just(star), some)


NEAR_MIDNIGHT: list[Part] = [("0-3", {0, 1, 2, 3}), ("23,0,1", {0, 1, 23}), ("2", {2}), ("0", {0})]


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    parts = (
        draw(fields(0, 59)),
        draw(st.one_of(fields(0, 23), st.sampled_from(NEAR_MIDNIGHT))),
        draw(fields(1, 31)),
        draw(fields(1, 12, MONTHS)),
        draw(fields(0, 6, WEEKDAYS)),
    )
    _, _, (_, days), (_, months), _ = parts
    assume(any(min(days) <= monthrange(2000, month)[1] for month in months))
    return Entry(" ".join(text for text, _ in parts), *(values for _, values in parts))


@cache
def every_other_day() -> list[datetime]:
    start = utc("1840-01-01")
    return [start + 2 * each * DAY for each in range(100 * 365)]


@cache
def changes(name: str) -> list[datetime]:
    """The first minutes after the zone's changes from 1840 to 2040; no two lie within two days."""
    zone = ZoneInfo(name)

    def offset(moment: datetime) -> timedelta | None:
        return moment.astimezone(zone).utcoffset()

    def change(begin: datetime) -> datetime:
        before = offset(begin)
        passed = bisect_left(
            range(2880), 1, key=lambda each: offset(begin + each * MINUTE) != before
        )
        return begin + passed * MINUTE

    known = pairwise((day, day.astimezone(zone).utcoffset()) for day in every_other_day())
    found = [change(day) for (day, before), (_, after) in known if before != after]
    return found or [utc("2024-01-01")]


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, datetime]:
    """A zone and an instant, mostly within hours of a change of its clock."""
    name = draw(st.sampled_from(ZONES))
    change = draw(st.sampled_from(changes(name)))
    near = draw(
        st.one_of(st.integers(-240, 240), st.integers(-2880, 2880), st.integers(-(10**6), 10**6))
    )
    return name, change + near * MINUTE + timedelta(seconds=draw(st.sampled_from([0, 0, 1, 59])))


def expected(entry: Entry, name: str, begin: datetime, end: datetime) -> list[datetime]:
    """The slots after `begin` until `end` by the letter of the rule, minute by minute.

    What the wall shows is counted in minutes from the start of the year 1.
    """
    zone = ZoneInfo(name)
    start = begin.replace(second=0) - 26 * HOUR
    minutes = [start + each * MINUTE for each in range((end - start) // MINUTE + 1)]
    shown: list[int] = []

    def shift(minute: datetime) -> int:
        return (minute.astimezone(zone).utcoffset() or timedelta()) // MINUTE

    for hour in (minutes[each : each + 60] for each in range(0, len(minutes), 60)):
        same = shift(hour[0]) == shift(hour[-1])  # no clock is changed twice within one
        shifts = [shift(hour[0])] * len(hour) if same else map(shift, hour)
        begins = (hour[0] - EARLIEST) // MINUTE
        shown += map(add, count(begins), shifts)
    times = {60 * hour + minute for hour in entry.hours for minute in entry.minutes}
    fits_day = cache(lambda day: entry.fits_day(date.fromordinal(day + 1)))

    def fits(wall: int) -> bool:
        day, at = divmod(wall, 24 * 60)
        return at in times and fits_day(day)

    if len(entry.hours) == 24:
        return [
            minute
            for minute, wall in zip(minutes, shown, strict=True)
            if minute > begin and fits(wall)
        ]
    slots: list[datetime] = []
    seen = {shown[0]}
    for minute, (before, wall) in zip(minutes[1:], pairwise(shown), strict=True):
        # What was skipped on the way there, and the time it shows unless it did so before.
        due = [*range(before + 1, wall), *([] if wall in seen else [wall])]
        seen.update(due)
        if minute > begin and any(map(fits, due)):
            slots.append(minute)
    return slots


@settings(max_examples=150, deadline=None)
@given(entry=entries(), moment=moments())
def test_slots_are_those_found_minute_by_minute(entry: Entry, moment: tuple[str, datetime]) -> None:
    name, at = moment
    begin, end = at - 36 * HOUR, at + 36 * HOUR
    slots = expected(entry, name, begin, end)
    cron = Cron.parse(entry.expr, name)
    assert list(cron.between(begin, end)) == slots
    assert list(cron.between(begin, end, limit=3)) == slots[:3]
    following, preceding = cron.next(at), cron.previous(at)
    if later := [slot for slot in slots if slot > at]:
        assert following == later[0]
    else:
        assert following is None or following > end
    if earlier := [slot for slot in slots if slot <= at]:
        assert preceding == earlier[-1]
    else:
        assert preceding is None or preceding <= begin


@settings(deadline=None)
@given(entry=entries(), moment=moments())
def test_next_and_previous_agree(entry: Entry, moment: tuple[str, datetime]) -> None:
    name, at = moment
    cron = Cron.parse(entry.expr, name)
    following, preceding = cron.next(at), cron.previous(at)
    assert following is not None
    assert preceding is not None
    assert preceding <= at < following
    assert cron.next(preceding) == following
    assert cron.previous(following) == following
    assert cron.previous(following - MINUTE) == preceding
    assert list(cron.between(preceding, following)) == [following]
    assert list(cron.between(preceding - MINUTE, LATEST, 2)) == [preceding, following]


@settings(deadline=None)
@given(entry=entries(), day=st.dates(date(1, 1, 1), date(9999, 12, 31)))
def test_far_slots_are_those_found_day_by_day(entry: Entry, day: date) -> None:
    """In UTC, where a day that fits has its first slot at the first of the entry's times."""
    first = time(min(entry.hours), min(entry.minutes))
    later = (
        date.fromordinal(each) for each in range(day.toordinal() + 1, date.max.toordinal() + 1)
    )
    fitting = (datetime.combine(each, first, UTC) for each in later if entry.fits_day(each))
    midnight = datetime.combine(day, time.max, UTC)
    assert Cron.parse(entry.expr).next(midnight) == next(fitting, None)
