import logging
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oban.telemetry.text_line import text_line

from .conftest import AJob


def line(name: str, metadata: dict[str, Any], level: int = logging.INFO) -> str:
    """The line without the time of day, which is checked on the way."""
    text = text_line(name, level, metadata)
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3} ", text)
    return text[13:]


def test_a_finished_job_is_one_compact_line(job: AJob) -> None:
    told = {"state": "completed", "duration": 12_345_678, "queue_time": 4_100_000}

    assert line("oban.job.stop", {"job": job, **told}) == (
        "ok      mailers  app.MailerWorker #42 1/20  12.3 ms (waited 4.1 ms)"
    )


def test_a_job_that_starts_has_no_times(job: AJob) -> None:
    assert line("oban.job.start", {"job": job, "monotonic_time": 5}) == (
        "start   mailers  app.MailerWorker #42 1/20"
    )


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ("completed", "ok"),
        ("scheduled", "snooze"),
        ("retryable", "retry"),
        ("cancelled", "cancel"),
        ("discarded", "discard"),
        ("available", "back"),
        ("peculiar", "peculiar"),
    ],
)
def test_each_state_has_its_word(state: str, word: str, job: AJob) -> None:
    assert line("oban.job.stop", {"job": job, "state": state}).split()[0] == word


def test_times_of_a_second_and_more_are_in_seconds(job: AJob) -> None:
    told = {"state": "completed", "duration": 61_260_000_000, "queue_time": 999_000_000}

    assert line("oban.job.stop", {"job": job, **told}).endswith("  61.3 s (waited 999.0 ms)")


def test_a_failure_is_followed_by_its_traceback_indented(job: AJob) -> None:
    trace = "Traceback (most recent call last):\n  File 'a.py'\nValueError: boom\n"
    told = {"state": "retryable", "error_message": "boom", "error_type": "ValueError"}

    text = line("oban.job.exception", {"job": job, **told, "traceback": trace}, logging.ERROR)

    assert text == (
        "retry   mailers  app.MailerWorker #42 1/20\n"
        "    Traceback (most recent call last):\n"
        "      File 'a.py'\n"
        "    ValueError: boom"
    )


def test_a_failure_without_a_traceback_stays_on_its_line(job: AJob) -> None:
    told = {"state": "retryable", "error_message": "boom", "error_type": "ValueError"}

    assert line("oban.job.exception", {"job": job, **told}).endswith("1/20  ValueError: boom")


@pytest.mark.parametrize("name", ["oban.stager.outage", "oban.producer.get.exception"])
def test_an_outage_of_the_database_is_one_line_whatever_its_message(name: str) -> None:
    message = "cannot connect:\n\tIs the server\n\trunning?\n"
    told = {"failures": 4, "error_type": "DatabaseUnavailable", "error_message": message}

    text = line(name, {**told, "traceback": "Traceback…\n"}, logging.WARNING)

    assert text == (
        f"warn    {name.removeprefix('oban.')}  failures=4"
        "  DatabaseUnavailable: cannot connect: Is the server running?"
    )


@pytest.mark.parametrize(
    ("name", "error_type"),
    [
        ("oban.stager.outage", "KeyError"),
        ("oban.job.exception", "DatabaseUnavailable"),
        ("theirs.outage", "DatabaseUnavailable"),
    ],
)
def test_an_error_that_no_loop_expects_keeps_its_traceback(name: str, error_type: str) -> None:
    told = {"error_type": error_type, "error_message": "x", "traceback": "Traceback…\n  here\n"}

    assert line(name, told).endswith("\n    Traceback…\n      here")


def test_a_rescue_says_what_became_of_the_jobs_of_which_nodes() -> None:
    fates = {**dict.fromkeys(range(1, 13), "rescued"), 20: "exhausted"}
    told = {"rescued_count": 13, "jobs": fates, "nodes": ["web-1", "web-2"]}

    assert line("oban.lifeline.rescue.stop", told, logging.WARNING) == (
        "warn    lifeline.rescue.stop  rescued_count=13"
        "  jobs=12 rescued (#1 #2 #3 #4 #5 #6 #7 #8 #9 #10 …), 1 exhausted (#20)"
        "  nodes=['web-1', 'web-2']"
    )


def test_another_event_is_its_name_and_its_metadata() -> None:
    told = {"system_time": 1, "duration": 1_200_000, "staged_count": 3, "queues": ["a", "b"]}

    assert line("oban.stager.stage.stop", told, logging.DEBUG) == (
        "debug   stager.stage.stop  1.2 ms  staged_count=3  queues=['a', 'b']"
    )


@pytest.mark.parametrize(
    ("level", "word"), [(10, "debug"), (20, "info"), (30, "warn"), (40, "error")]
)
def test_the_level_of_another_event_is_its_first_word(level: int, word: str) -> None:
    assert line("oban.producer.stale", {}, level) == f"{word:<7} producer.stale"


def test_a_fraction_has_three_decimals() -> None:
    assert line("oban.test", {"delay": 0.051784, "ever": float("inf")}).endswith(
        "  delay=0.052  ever=inf"
    )


@pytest.mark.parametrize("key", ["value", "error_message"])
def test_a_long_value_is_cut(key: str) -> None:
    text = line("oban.test", {key: "x" * 10_000})

    assert text.endswith("xx… (10000 characters)")
    assert len(text) < 300


def test_a_very_long_traceback_is_cut() -> None:
    text = line("oban.test", {"traceback": "x" * 1_000_000})

    assert text.endswith("xx… (1000000 characters)")
    assert len(text) < 70_000


def test_the_args_of_a_job_are_never_shown(job: AJob) -> None:
    text = line("oban.test", {"job": job, "jobs": [job]})

    assert "job=app.MailerWorker#42" in text
    assert "hunter2" not in text


def test_a_row_cannot_steer_the_terminal(job: AJob) -> None:
    job.queue = "\x1b]0;owned\x07\r\n\ud800"
    told = {"state": "retryable", "traceback": "first\n\x1b[2Jsecond\r\tthird"}

    text = line("oban.job.exception", {"job": job, **told})

    assert text == (
        "retry   \\x1b]0;owned\\x07\\r\\n\\ud800  app.MailerWorker #42 1/20\n"
        "    first\n"
        "    \\x1b[2Jsecond\\r    third"
    )


def test_markup_in_a_name_is_only_text(job: AJob) -> None:
    job.worker = "[red]app[/red].Mailer:smile:"

    text = text_line("oban.job.start", logging.INFO, {"job": job}, color=True)

    assert "[red]app[/red].Mailer:smile:" in text


def test_a_line_wider_than_the_terminal_is_not_broken(
    job: AJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    job.worker = "app." + "Worker" * 50

    text = text_line("oban.job.start", logging.INFO, {"job": job}, color=True)

    assert job.worker in text
    assert "\n" not in text


@given(
    metadata=st.dictionaries(
        st.sampled_from(["state", "duration", "queue_time", "error_type", "error_message", "x"])
        | st.text(max_size=5).filter(lambda key: key not in {"traceback", "job"}),
        st.text(st.characters()) | st.integers() | st.floats() | st.none() | st.lists(st.text()),
    ),
    queue=st.text(st.characters()),
    name=st.sampled_from(["oban.job.start", "oban.job.stop", "oban.stager.stage.stop"]),
    color=st.booleans(),
)
def test_without_a_traceback_it_is_one_printable_line(
    metadata: dict[str, Any], queue: str, name: str, color: bool
) -> None:
    text = text_line(name, logging.INFO, {"job": AJob(queue=queue), **metadata}, color=color)

    assert re.sub(r"\x1b\[[0-9;]*m", "", text).isprintable()
    assert "hunter2" not in text
