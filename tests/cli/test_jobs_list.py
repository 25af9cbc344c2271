import json
from datetime import UTC, datetime, timedelta

import pytest
from tests.cli.conftest import Command, Insert

from oban.states import JobState


def test_no_jobs_is_said_and_not_printed(oban: Command) -> None:
    ran = oban("jobs", "list")
    assert (ran.code, ran.out, ran.err) == (0, "", "no jobs\n")
    assert oban("jobs", "list", "--queue", "other").err == "no job matches\n"
    assert oban("jobs", "list", "--json").json == []


def test_the_newest_job_comes_first_in_one_line(oban: Command, insert: Insert) -> None:
    insert(worker="app.First", args={"user_id": 42, "email": "a@b.c"})
    insert(worker="app.Second", queue="mailers", state="completed", attempt=3)
    header, second, first = oban("jobs", "list").out.splitlines()
    assert header.split() == ["id", "state", "queue", "worker", "attempt", "when", "args"]
    assert second.split()[:5] == ["2", "completed", "mailers", "app.Second", "3/20"]
    assert first.split() == [
        *("1", "available", "default", "app.First", "0/20", "now"),
        *('email="a@b.c"', "user_id=42"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--state", "retryable"], [2]),
        (["--state", "retryable", "--state", "completed"], [3, 2]),
        (["--queue", "mailers"], [3]),
        (["--worker", "app.Other"], [4]),
        (["--tag", "red"], [4, 1]),
        (["--tag", "Red ", "--tag", "blue"], [4]),
        (["--args", "user_id=42"], [2]),
        (["--args", "user_id=42", "--args", "kind=welcome"], [2]),
        (["--args", 'kind="welcome"'], [3, 2]),
        (["--args", "user_id=43"], []),
        (["--args", "user_id=NaN"], []),
        (["--args", "user_id=1e999"], []),
        (["--meta", "batch.id=7"], []),
        (["--meta", "batch=7"], [3]),
        (["--priority", "9"], [1]),
        (["--limit", "2"], [4, 3]),
        (["--before", "3"], [2, 1]),
        (["--limit", "1", "--before", "3"], [2]),
        ([], [4, 3, 2, 1]),
    ],
)
def test_filters_choose(
    oban: Command, insert: Insert, options: list[str], found: list[int]
) -> None:
    insert(tags=["red"], priority=9)
    insert(state="retryable", args={"user_id": 42, "kind": "welcome"})
    insert(state="completed", queue="mailers", meta={"batch": 7}, args={"kind": "welcome"})
    insert(worker="app.Other", tags=["blue", "red"])
    assert [job["id"] for job in oban("jobs", "list", "--json", *options).json] == found


def test_the_next_page_is_named_when_there_is_one(oban: Command, insert: Insert) -> None:
    for _ in range(3):
        insert()
    assert oban("jobs", "list", "--limit", "2").err == "more with --before 2\n"
    assert oban("jobs", "list", "--limit", "3").err == ""


def test_a_job_is_an_object_with_iso_times(oban: Command, insert: Insert) -> None:
    insert(args={"name": "Zoë"}, tags=["a"], scheduled_at=datetime(2031, 2, 3, 4, 5, 6))
    (job,) = oban("jobs", "list", "--json").json
    assert job["scheduled_at"] == "2031-02-03T04:05:06+00:00"
    assert job["args"] == {"name": "Zoë"}
    assert job["completed_at"] is None
    assert job["tags"] == ["a"]
    assert next(iter(job)) == "id"


def test_times_are_relative_and_of_what_the_state_is_about(oban: Command, insert: Insert) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    insert(state="scheduled", scheduled_at=now + timedelta(minutes=30, seconds=30))
    insert(state="executing", attempted_at=now - timedelta(hours=3, seconds=5))
    insert(state="discarded", discarded_at=now - timedelta(days=5))
    insert(state="cancelled", cancelled_at=now - timedelta(seconds=150))
    lines = oban("jobs", "list").out.splitlines()[1:]
    shown = [line.partition("/20")[2].strip() for line in lines]
    assert shown == ["2m ago", "5d ago", "3h ago", "in 30m"]


def test_long_arguments_are_cut_and_lines_stay_whole_in_a_pipe(
    oban: Command, insert: Insert
) -> None:
    insert(worker=f"application.{'deep.' * 10}Worker", args={"text": "long " * 1000})
    (line,) = oban("jobs", "list").out.splitlines()[1:]
    assert len(line) <= 160
    assert f"application.{'deep.' * 10}Worker" in line
    assert line.endswith("…")


def test_the_table_fits_a_narrow_terminal(
    oban: Command, insert: Insert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    insert(worker=f"application.{'deep.' * 10}Worker", args={"text": "long " * 1000})
    lines = oban("jobs", "list").out.splitlines()
    assert len(lines) == 2
    assert all(len(line) <= 70 for line in lines)
    assert "available" in lines[1]


def test_rows_of_others_are_listed_whatever_they_hold(oban: Command, insert: Insert) -> None:
    insert(args=[1, 2], worker="Elixir.App.Worker")
    insert(args="text", meta=[], errors={"not": "a list"}, queue="odd")
    insert(worker="\x1b[31mred\x1b[0m\x07", args={"bell": "\x07\x9b31m"}, queue="a\nb\tc")
    ran = oban("jobs", "list")
    assert ran.code == 0
    assert len(ran.out.splitlines()) == 4
    assert "\x1b" not in ran.out
    assert "\x07" not in ran.out
    assert "\x9b" not in ran.out
    assert "[1, 2]" in ran.out
    assert len(oban("jobs", "list", "--json").json) == 3
    for job in (1, 2, 3):
        shown = oban("jobs", "show", str(job))
        assert shown.code == 0, shown.err
        assert "\x1b" not in shown.out
        assert oban("jobs", "show", str(job), "--json").json["id"] == job


def test_json_of_a_hostile_row_is_ascii(oban: Command, insert: Insert) -> None:
    insert(args={"text": "\x9b31m\u202eevil"})
    ran = oban("jobs", "list", "--json")
    assert ran.out.isascii()
    assert json.loads(ran.out)[0]["args"] == {"text": "\x9b31m\u202eevil"}


def test_another_prefix_has_other_jobs(command: Command, dsn: str) -> None:
    assert command("install", "--dsn", dsn, "--prefix", 'odd "one').code == 0
    assert command("jobs", "list", "--dsn", dsn, "--prefix", 'odd "one', "--json").json == []
    missing = command("jobs", "list", "--dsn", dsn)
    assert missing.code == 1
    assert "run `oban install`" in missing.err


def test_every_state_has_its_line(oban: Command, insert: Insert) -> None:
    for state in JobState:
        insert(state=str(state))
    shown = {line.split()[1] for line in oban("jobs", "list").out.splitlines()[1:]}
    assert shown == set(JobState)
