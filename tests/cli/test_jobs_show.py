from datetime import datetime

from tests.cli.conftest import Command, Insert

from oban.outcome import Record

ERRORS = [
    {"attempt": 1, "at": "2026-01-02T03:04:05.6Z", "error": "Traceback:\n  line 1\nValueError: a"},
    {"attempt": 2, "at": "2026-01-02T03:05:05.6Z", "error": "KeyError: 'b'"},
]


def test_a_job_is_shown_whole(oban: Command, insert: Insert) -> None:
    job = insert(
        worker="app.Mailer",
        queue="mailers",
        state="retryable",
        attempt=2,
        max_attempts=5,
        priority=3,
        tags=["red", "blue"],
        args={"text": "x" * 500},
        meta={"trace": "abc"},
        errors=ERRORS,
        attempted_by=["node-1", "some-uuid"],
        attempted_at=datetime(2026, 1, 2, 3, 4, 5, 678_000),
    )
    shown = oban("jobs", "show", job).out
    assert f"#{job} app.Mailer  retryable" in shown
    for part in ("mailers", "2 of 5", "red, blue", "node-1 (some-uuid)", '"trace": "abc"'):
        assert part in shown
    assert "x" * 500 in shown
    assert "2026-01-02 03:04:05.678 UTC" in shown
    assert "error of attempt 1 at 2026-01-02T03:04:05.6Z" in shown
    assert "  Traceback:\n    line 1\n  ValueError: a" in shown
    assert "KeyError: 'b'" in shown


def test_a_recorded_result_is_decoded_and_shown_once(oban: Command, insert: Insert) -> None:
    encoded = Record({"sent": 3, "to": ["a", None]}).encoded
    job = insert(state="completed", meta={"recorded": True, "return": encoded, "other": 1})
    shown = oban("jobs", "show", job).out
    assert '"sent": 3' in shown
    assert encoded not in shown
    document = oban("jobs", "show", job, "--json").json
    assert document["recorded"] == {"sent": 3, "to": ["a", None]}
    assert document["meta"]["other"] == 1


def test_a_result_that_cannot_be_read_does_not_hide_the_job(oban: Command, insert: Insert) -> None:
    for meta in (
        {"recorded": True, "return": "!!"},
        {"recorded": True},
        {"recorded": True, "return": 5},
    ):
        job = insert(meta=meta)
        assert "cannot be read" in oban("jobs", "show", job).out
        assert "cannot be read" in oban("jobs", "show", job, "--json").json["recorded"]


def test_a_document_holds_the_errors(oban: Command, insert: Insert) -> None:
    job = insert(errors=ERRORS)
    assert oban("jobs", "show", job, "--json").json["errors"] == ERRORS


def test_a_job_that_is_not_there_is_a_failure(oban: Command) -> None:
    ran = oban("jobs", "show", 99)
    assert (ran.code, ran.out, ran.err) == (1, "", "error: there is no job 99\n")
