"""`oban explain`, as somebody reads it at night."""

import pytest
from tests.cli.conftest import Command, Insert

TRACEBACK = (
    'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\nKeyError: 1\n'
)


def test_it_is_a_short_screen_with_what_to_do(oban: Command, insert: Insert) -> None:
    insert(queue="mailers")
    job = insert(queue="mailers", worker="app.Mailer")
    ran = oban("explain", job)
    assert ran.code == 0
    assert ran.out.splitlines() == [
        f"#{job} app.Mailer  available",
        "queue mailers, priority 0, attempt 0 of 20",
        "",
        "It has waited for 0 s: no node runs queue mailers.",
        "  → no node is alive at all: start one, as with `oban start --queues mailers:10`",
        "1 job stands before it in queue mailers; the oldest of the queue has waited for 0 s.",
    ]


def test_as_json_it_has_codes_for_programs(oban: Command, insert: Insert) -> None:
    error = {"attempt": 1, "at": "2026-01-02T03:04:05.6Z", "error": TRACEBACK}
    job = insert(state="discarded", attempt=1, max_attempts=1, errors=[error])
    found = oban("explain", job, "--json").json
    assert found["job"]["id"] == job
    (cause,) = found["causes"]
    assert cause["code"] == "attempts_exhausted"
    assert cause["text"] == "its only attempt failed with KeyError: 1"
    assert cause["details"]["error"] == "KeyError: 1"
    assert found["summary"].endswith(cause["text"])


def test_nothing_in_a_row_steers_the_terminal(oban: Command, insert: Insert) -> None:
    job = insert(queue="a\x1b[31m", worker="b\x07", args=[1], errors="x", meta=[])
    shown = oban("explain", job).out
    assert "\x1b" not in shown
    assert "\x07" not in shown
    job = insert(queue="a\n  → oban queues delete", worker="b\n  → reboot")
    (advice,) = (line for line in oban("explain", job).out.splitlines() if "→" in line[:4])
    assert "no node is alive at all" in advice


@pytest.mark.parametrize(
    ("before", "asked", "said"),
    [
        (0, 9, "there is no job 9; the table is empty: is it the right database"),
        (2, 9, "there is no job 9; the newest is 2: the transaction that inserted it"),
        (0, 2**63, f"there is no job {2**63}; ids are whole numbers from 1 to {2**63 - 1}"),
    ],
)
def test_a_job_that_is_not_there_is_a_failure_with_a_guess(
    oban: Command, insert: Insert, before: int, asked: int, said: str
) -> None:
    for _ in range(before):
        insert()
    ran = oban("explain", asked)
    assert (ran.code, ran.out) == (1, "")
    assert said in ran.err
