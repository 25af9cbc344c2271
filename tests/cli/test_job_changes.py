from datetime import datetime

import pytest
from tests.cli.application import rows
from tests.cli.conftest import Command, Insert

from oban.cli import changes


def states(dsn: str) -> list[str]:
    return [state for _, state, *_ in rows(dsn)]


def test_retry_makes_jobs_available(oban: Command, insert: Insert, oban_dsn: str) -> None:
    insert(state="discarded", attempt=20)
    insert(state="completed", attempt=1)
    ran = oban("jobs", "retry", 1, 2)
    assert (ran.code, ran.out, ran.err) == (0, "2 jobs retried\n", "")
    assert states(oban_dsn) == ["available", "available"]


def test_cancel_cancels(oban: Command, insert: Insert, oban_dsn: str) -> None:
    insert(state="scheduled")
    assert oban("jobs", "cancel", 1).out == "1 job cancelled\n"
    assert states(oban_dsn) == ["cancelled"]


def test_delete_deletes(oban: Command, insert: Insert, oban_dsn: str) -> None:
    insert()
    insert()
    assert oban("jobs", "delete", 1).out == "1 job deleted\n"
    assert len(states(oban_dsn)) == 1


def test_what_could_not_be_changed_is_named_with_the_reason(
    oban: Command, insert: Insert, oban_dsn: str
) -> None:
    insert(state="executing", attempt=1)
    insert(state="available")
    insert(state="discarded", attempt=1)
    ran = oban("jobs", "retry", 1, 2, 3, 99)
    assert ran.code == 1
    assert ran.out == "1 of 4 jobs retried\n"
    assert "not retried, is executing: 1 (1)" in ran.err
    assert "not retried, is available already: 2 (1)" in ran.err
    assert "not retried, does not exist: 99 (1)" in ran.err
    assert states(oban_dsn) == ["executing", "available", "available"]


@pytest.mark.parametrize("verb", ["retry", "delete"])
def test_a_cancelled_job_whose_code_runs_is_not_just_called_cancelled(
    oban: Command, insert: Insert, oban_dsn: str, verb: str
) -> None:
    insert(state="cancelled", attempt=1, stopping_at=datetime(2031, 2, 3))
    assert "is cancelled, and its code still runs: 1 (1)" in oban("jobs", verb, 1).err
    assert states(oban_dsn) == ["cancelled"]


def test_changes_are_a_document_for_programs(oban: Command, insert: Insert) -> None:
    insert(state="completed")
    insert()
    ran = oban("jobs", "cancel", 1, 2, "--json")
    assert ran.code == 1
    assert '"cancelled": [\n    2\n  ]' in ran.out
    assert '"1": "is completed already"' in ran.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "which jobs to cancel? Give ids, or --all-matching"),
        (["1", "--all-matching"], "give one of them"),
        (["1", "--queue", "default"], "give one of them"),
        (["--queue", "default"], "add --all-matching"),
    ],
)
def test_many_jobs_are_never_changed_by_a_slip(
    oban: Command, insert: Insert, oban_dsn: str, arguments: list[str], said: str
) -> None:
    insert()
    ran = oban("jobs", "cancel", *arguments)
    assert ran.code == 2
    assert said in ran.err
    assert states(oban_dsn) == ["available"]


def test_nobody_to_ask_means_no(oban: Command, insert: Insert, oban_dsn: str) -> None:
    insert()
    insert()
    ran = oban("jobs", "delete", "--all-matching", "--state", "available")
    assert ran.code == 2
    assert "Delete 2 jobs (available)?" in ran.err
    assert "--yes" in ran.err
    assert len(states(oban_dsn)) == 2


def test_all_matching_jobs_are_changed_in_batches(
    oban: Command, insert: Insert, oban_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "BATCH", 3)
    monkeypatch.setattr(changes, "PAGE", 2)
    for number in range(8):
        insert(args={"even": number % 2 == 0}, queue="mailers" if number < 7 else "other")
    ran = oban("jobs", "cancel", "--all-matching", "--yes", "--queue", "mailers")
    assert ran.out == "7 jobs cancelled\n"
    assert states(oban_dsn) == ["cancelled"] * 7 + ["available"]


def test_retrying_all_means_those_that_failed(oban: Command, insert: Insert, oban_dsn: str) -> None:
    for state in ("completed", "cancelled", "retryable", "discarded", "scheduled"):
        insert(state=state)
    ran = oban("jobs", "retry", "--all-matching", "--yes")
    assert ran.out == "2 jobs retried\n"
    assert states(oban_dsn) == ["completed", "cancelled", "available", "available", "scheduled"]


def test_nothing_matching_is_fine_and_asks_nothing(oban: Command) -> None:
    ran = oban("jobs", "retry", "--all-matching")
    assert (ran.code, ran.out) == (0, "0 jobs retried\n")
