"""One entry of the crontab: how it is given, what it is called, and which slots it runs."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from oban import Job, Worker, job, worker
from oban.errors import InvalidJob, InvalidOption
from oban.options import SchedulerOptions
from oban.part import parse
from oban.periodic import MOST_AT_ONCE, Periodic, parse_all
from oban.running.scheduler import build
from oban.worker import forget, registered

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def due(last: datetime, now: datetime, expr: str = "* * * * *", **options: Any) -> list[datetime]:
    entry = Periodic("w", expr, **options)
    return entry.due(entry.cron("UTC"), last, now)


def test_the_latest_slot_is_caught_up_within_the_window_and_no_other() -> None:
    assert due(NOON, NOON + minutes(0.9)) == []
    assert due(NOON, NOON + minutes(1)) == [NOON + minutes(1)]
    assert due(NOON, NOON + minutes(5.5)) == [NOON + minutes(5)]
    assert due(NOON, NOON + minutes(70), "0 * * * *") == [NOON + minutes(60)]
    assert due(NOON, NOON + minutes(71), "0 * * * *") == []
    assert due(NOON, NOON + minutes(71), "0 * * * *", window=3600) == [NOON + minutes(60)]


def test_all_slots_are_caught_up_where_that_is_asked_for_bounded_at_a_time() -> None:
    every = due(NOON, NOON + minutes(5), catch_up="all")
    assert every == [NOON + minutes(n) for n in (1, 2, 3, 4, 5)]
    many = due(NOON, NOON + timedelta(days=30), catch_up="all")
    assert len(many) == MOST_AT_ONCE
    assert many[-1] == NOON + minutes(MOST_AT_ONCE)


def test_none_runs_a_slot_within_its_own_minute_only() -> None:
    assert due(NOON, NOON + minutes(60.9), "0 * * * *", catch_up="none") == [NOON + minutes(60)]
    assert due(NOON, NOON + minutes(61.1), "0 * * * *", catch_up="none") == []


def test_a_clock_that_is_set_back_runs_nothing_again() -> None:
    assert due(NOON, NOON - minutes(30), catch_up="all") == []
    assert due(NOON, NOON) == []


def test_the_name_says_what_makes_an_entry_another() -> None:
    names = {
        Periodic("w", "0 9 * * *").name,
        Periodic("w", "0 10 * * *").name,
        Periodic("v", "0 9 * * *").name,
        Periodic("w", "0 9 * * *", timezone="Europe/Berlin").name,
        Periodic("w", "0 9 * * *", args={"a": 1}).name,
        Periodic("w", "0 9 * * *", args={"a": 2}).name,
    }
    assert len(names) == 6
    assert "w 0 9 * * *" in names
    assert Periodic("w", "0 9 * * *", name="mornings").name == "mornings"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (5, "it is an expression"),
        ({"timezone": "UTC"}, "a table with `expr`"),
        ({"expr": "* * * * *", "que": "x"}, "no option que; there are: expr, timezone"),
        ("* * * *", "cron"),
        ({"expr": "* * * * *", "timezone": "Mars"}, "Mars"),
        ({"expr": "* * * * *", "catch_up": "some"}, "one of latest, all, none"),
        ({"expr": "* * * * *", "overlap": "some"}, "one of allow, skip"),
        ({"expr": "* * * * *", "window": 5}, "at least 60"),
        (["* * * * *", "* * * * *"], "two cron entries are called"),
    ],
)
def test_what_is_wrong_is_said(given: Any, said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        parse_all("w", given)


def test_a_worker_may_have_several_entries_with_arguments_and_fields_of_their_own() -> None:
    @worker(
        queue="reports",
        tags=["all"],
        meta={"own": 1},
        cron=[
            "@hourly",
            {"expr": "30 2 * * *", "timezone": "Europe/Berlin", "args": {"n": 2}, "priority": 3},
        ],
    )
    class Report(Worker):
        async def process(self, job: Job) -> None: ...

    name = Report.new().worker
    try:
        hourly, nightly = registered()[name].cron
        made = build(nightly, NOON, "UTC")
        assert (made.queue, made.tags, made.args) == ("reports", ["all"], {"n": 2})
        assert (made.priority, made.scheduled_at, made.state) == (3, NOON, "available")
        assert made.meta == {
            "own": 1,
            "cron": True,
            "cron_expr": "30 2 * * *",
            "cron_name": f"{nightly.name}",
            "cron_tz": "Europe/Berlin",
        }
        assert build(hourly, NOON, "Asia/Tokyo").meta["cron_tz"] == "Asia/Tokyo"
        assert Report.new().meta == {"own": 1}
    finally:
        forget(name)


def test_an_entry_is_proved_on_one_job_when_it_is_declared() -> None:
    with pytest.raises(InvalidJob, match="priority"):

        @worker(cron={"expr": "@daily", "priority": 11})
        class Wrong(Worker):
            async def process(self, job: Job) -> None: ...

    with pytest.raises(TypeError, match="missing a required argument: 'who'"):

        @job(cron="@daily")
        def greet(who: str) -> None: ...

    with pytest.raises(TypeError, match="no option 'cron'"):
        Quick.new(cron="@daily")  # type: ignore[call-arg]


@worker()
class Quick(Worker):
    async def process(self, job: Job) -> None: ...


def test_the_configuration_adds_entries_and_names_the_zone() -> None:
    options = parse(
        SchedulerOptions,
        "scheduler.",
        {
            "timezone": "Europe/Berlin",
            "entries": [{"worker": "app.W", "expr": "@daily", "args": {"a": [1]}, "queue": "x"}],
        },
    )
    (entry,) = options.periodic
    assert (entry.worker, entry.args, entry.fields) == ("app.W", {"a": [1]}, {"queue": "x"})
    assert entry.cron(options.timezone).timezone == "Europe/Berlin"
    made = build(entry, NOON, options.timezone)
    assert (made.worker, made.queue, made.args) == ("app.W", "x", {"a": [1]})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"timezone": "Mars/Base"}, "Mars/Base"),
        ({"entries": [{"worker": "w", "expr": "61 * * * *"}]}, "61"),
        ({"entries": [{"expr": "@daily"}]}, "worker"),
        ({"entries": [{"worker": "w", "expr": "@daily", "queue": "q" * 200}]}, "queue"),
        ({"entries": [{"worker": "w" * 200, "expr": "@daily"}]}, "worker"),
        ({"entries": {"worker": "w"}}, "a list"),
        ({"entries": [{"worker": "w", "expr": "@daily", "args": 5}]}, "args"),
        ({"entries": [{"worker": "w", "expr": "@daily"}] * 2}, "two cron entries"),
    ],
)
def test_a_wrong_configuration_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        parse(SchedulerOptions, "scheduler.", given)
