"""From facts to causes: each alone, without a database."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.rows import restored

from oban.engines.commands import EVERY, Intent
from oban.engines.explain import MOST_AHEAD, JobFacts, KeyHolder, Room, Runner
from oban.engines.nodes import KnownProducer
from oban.engines.runs import ProducerIdentity
from oban.explaining import explain
from oban.explaining.ended import DIED, SUSPECT
from oban.explaining.words import KeptError
from oban.explanation import Cause, Explanation
from oban.job import Job
from oban.states import JobState

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
UUID = "5f1c30c2-3c3a-4a5e-8d53-0c6c7d8a9e01"
TRACEBACK = """Traceback (most recent call last):
  File "/app/mail.py", line 7, in process
    send(job)
    ~~~~^^^^^
ValueError: no such
  address
"""


def ago(**length: float) -> datetime:
    return NOW - timedelta(**length)


def job(state: str = "available", **columns: Any) -> Job:
    given = {
        "id": 7,
        "worker": "app.Mailer",
        "queue": "mailers",
        "attempt": 0,
        "max_attempts": 20,
        "priority": 0,
        "args": {},
        "meta": {},
        "errors": [],
        "attempted_by": [],
        "scheduled_at": ago(minutes=5),
    }
    return restored(**{**given, "state": JobState(state), **columns})


def runner(
    node: str = "web-1",
    *,
    beat_age: float | None = 1.0,
    busy: int = 0,
    ours: bool = True,
    **meta: Any,
) -> Runner:
    identity = ProducerIdentity(UUID, "Oban", node, "mailers")
    told = {"limit": 10, "paused": False, **meta}
    return Runner(KnownProducer(identity, ago(hours=1), busy, told, beat_age, 10.0), ours)


def intent(aspect: Any, value: Any, **given: Any) -> dict[str, list[Intent]]:
    command = Intent("mailers", EVERY, aspect, value, version=1, set_at=ago(hours=2))
    return {"Oban": [replace(command, **given)]}


def facts(state: str = "available", /, **given: Any) -> JobFacts:
    names = JobFacts.__dataclass_fields__
    columns = {name: value for name, value in given.items() if name not in names}
    others = {name: value for name, value in given.items() if name in names}
    alive = {"runners": [runner()], "living_queues": ["mailers"]}
    return JobFacts(job=job(state, **columns), at=NOW, **{**alive, **others})


def codes(explanation: Explanation) -> list[str]:
    return [each.code for each in explanation.causes]


def only(given: JobFacts) -> Cause:
    (cause,) = explain(given).causes
    return cause


def first(given: JobFacts) -> Cause:
    return explain(given).causes[0]


# Available


def test_of_a_job_that_nothing_keeps_it_is_said_when_it_has_just_come() -> None:
    assert only(facts(scheduled_at=ago(seconds=1))).code == "just_available"
    waited = explain(facts())
    assert codes(waited) == ["no_cause"]
    assert waited.summary.startswith("it has waited for 5 min: ")
    assert "web-1" in (waited.causes[0].advice or "")


def test_without_any_node_it_is_told_to_start_one() -> None:
    cause = only(facts(runners=[], living_queues=[]))
    assert (cause.code, cause.text) == ("no_node", "no node runs queue mailers")
    assert cause.advice == (
        "no node is alive at all: start one, as with `oban start --queues mailers:10`"
    )


def test_a_slip_of_the_pen_in_the_name_of_a_queue_is_guessed() -> None:
    cause = only(facts(queue="maillers", runners=[], living_queues=["default", "mailers"]))
    assert cause.text == "no node runs queue maillers; nodes run default, mailers"
    assert (cause.advice or "").startswith("is mailers meant?")
    assert cause.details["near"] == ["mailers"]


def test_who_ran_the_queue_last_is_told() -> None:
    seen = [runner("web-1", beat_age=7200.0), runner("web-2", beat_age=180.0)]
    cause = only(facts(runners=seen))
    assert cause.text == (
        "no node runs queue mailers: web-2, which did last, has been silent for 3 min, "
        "and 1 other before"
    )
    leaving = runner(shutdown_started_at="2026-05-04T03:02:00+00:00")
    assert only(facts(runners=[leaving])).text.endswith("web-1, which does, is shutting down")


def test_a_queue_that_was_stopped_is_started_by_the_opposite_command() -> None:
    cause = only(facts(runners=[], intents=intent("running", False)))
    assert cause.code == "queue_stopped"
    assert cause.text == (
        "queue mailers was stopped on all nodes by a command, 2 h ago, at 2026-05-04 01:02:01 UTC"
    )
    assert cause.advice == "oban queues start mailers"
    alone, nobody = explain(
        facts(runners=[], intents=intent("running", False, node="web-1"))
    ).causes
    assert nobody.code == "no_node"  # others may have run it too
    dead = only(facts(runners=[], living_queues=[], intents=intent("running", False)))
    assert "see that one is up, `oban start --queues mailers:10`" in (dead.advice or "")
    assert alone.advice == "oban queues start mailers --node web-1"
    assert only(facts(runners=[], intents=intent("running", True))).code == "no_node"


def test_a_queue_that_looks_like_an_option_is_none_in_what_is_to_be_pasted() -> None:
    paused = only(facts(runners=[runner(paused=True)], queue="--all"))
    assert paused.advice == "oban queues resume -- --all"
    rooms = [Room("queue", "--all", 8, 8)]
    full = only(facts(rooms=rooms, queue="--all"))
    assert full.advice == "oban queues scale --global-limit 16 -- --all raises it"
    unmanned = only(facts(runners=[], living_queues=[], queue="-a"))
    assert "`oban start --queues=-a:10`" in (unmanned.advice or "")


def test_a_pause_says_since_when_until_when_and_how_to_end_it() -> None:
    resting = [runner("web-1", paused=True), runner("web-2", paused=True)]
    given = intent("paused", True, expires_in=5400.0)
    cause = only(facts(runners=resting, intents=given))
    assert cause.text == (
        "queue mailers is paused on all nodes that run it (web-1, web-2), by a command 2 h ago, "
        "at 2026-05-04 01:02:01 UTC; it resumes by itself in 1 h 30 min"
    )
    assert cause.advice == "oban queues resume mailers"
    assert cause.details["commanded"] is True
    of_all = only(facts(runners=resting, intents=intent("paused", True, queue=EVERY)))
    assert "by a command for all queues" in of_all.text
    of_one = intent("paused", True, node="web-1")
    assert only(facts(runners=resting[:1], intents=of_one)).advice == (
        "oban queues resume mailers --node web-1"
    )


def test_a_pause_that_nobody_commanded_is_of_the_configuration() -> None:
    cause = only(facts(runners=[runner(paused=True)], queue="of 'mine'"))
    assert "by their configuration" in cause.text
    assert cause.advice == """oban queues resume 'of '"'"'mine'"'"''"""


def test_a_pause_on_some_nodes_does_not_explain_much() -> None:
    some = [runner("web-1", paused=True), runner("web-2", busy=10)]
    assert codes(explain(facts(runners=some))) == ["slots_busy", "queue_paused"]


def test_busy_slots_name_the_job_that_has_run_longest() -> None:
    busy = replace(runner(busy=10), longest_id=3, longest_for=10_800.0)
    cause = only(facts(runners=[busy]))
    assert cause.text == (
        "all slots of queue mailers are busy: 10 of 10 run on web-1; job 3 the longest, for 3 h"
    )
    assert "oban explain 3" in (cause.advice or "")
    assert only(facts(runners=[busy, runner("web-2", busy=9)])).code == "no_cause"


@pytest.mark.parametrize(
    ("room", "code", "words"),
    [
        (Room("queue", "mailers", 8, 8), "global_limit_full", "8 of 8 run on all nodes together"),
        (Room("partition", "mailers", 2, 2), "partition_full", "its partition of queue mailers"),
        (Room("shared", "openai", 4, 5), "shared_limit_full", "5 of 4 run"),
        (Room("shared", "opneai", 0, is_known=False), "unknown_limit", "no node has ever defined"),
        (Room("shared", "openai", resting=30.0), "limit_resting", "until 2026-05-04 03:02:31 UTC"),
        (
            Room("queue", "mailers", None, 0, 60, 60.0, 60, 20.0),
            "rate_used",
            "60 of 60 started within 1 min; there is room again in 20 s",
        ),
    ],
)
def test_a_limit_without_room_is_told(room: Room, code: str, words: str) -> None:
    cause = only(facts(rooms=[room]))
    assert cause.code == code
    assert words in cause.text


def test_a_limit_with_room_is_not_told() -> None:
    rooms = [Room("queue", "mailers", 8, 7, 60, 60.0, 59, 20.0), Room("shared", "openai")]
    assert only(facts(rooms=rooms)).code == "no_cause"


def test_a_heavy_job_waits_for_all_of_its_weight_or_for_the_whole_period() -> None:
    rate = Room("queue", "mailers", None, 0, 60, 60.0, 58, 20.0)
    assert "it takes 5" in only(facts(rooms=[rate], weight=5)).text
    assert only(facts(rooms=[replace(rate, started=0)], weight=500)).code == "no_cause"


def test_jobs_before_it_are_counted_to_a_bound() -> None:
    assert only(facts(ahead_count=1)).text == "1 job stands before it in queue mailers"
    many = only(facts(ahead_count=MOST_AHEAD + 1, oldest_wait=3600.0))
    assert many.text == (
        "more than 10,000 jobs stand before it in queue mailers; the oldest of the queue has "
        "waited for 1 h"
    )
    partition = [Room("partition", "mailers", 2, 1)]
    assert only(facts(ahead_count=3, rooms=partition)).text == (
        "3 jobs stand before it in its partition"
    )


def test_what_else_keeps_an_available_job() -> None:
    assert only(facts(attempt=20)).code == "no_attempt_left"
    assert only(facts(is_unplaced=True)).code == "unplaced"
    assert only(facts(meta={"crashes": 3})).code == "runs_alone"
    assert only(facts(meta={"deadline_at": "2026-05-04T03:00:00+00:00"})).code == "deadline_passed"
    assert only(facts(meta={"deadline_at": "2026-05-04T04:00:00+00:00"})).code == "no_cause"
    assert only(facts(runners=[runner(loop_lag=12.5)])).code == "loop_blocked"
    assert only(facts(runners=[runner(polling="a pooler")])).code == "polling"


def test_of_several_causes_the_most_telling_comes_first() -> None:
    given = facts(
        runners=[runner(paused=True)],
        rooms=[Room("queue", "mailers", 8, 8)],
        ahead_count=5,
        is_unplaced=True,
    )
    found = explain(given)
    assert codes(found) == ["queue_paused", "unplaced", "global_limit_full", "jobs_ahead"]
    assert found.summary == f"it has waited for 5 min: {found.causes[0].text}"


# Scheduled, retryable, suspended


def test_a_scheduled_job_says_who_put_it_off() -> None:
    soon = NOW + timedelta(minutes=10)
    by_caller = explain(facts("scheduled", scheduled_at=soon))
    assert by_caller.summary == (
        "it is due in 10 min: it was scheduled for then: it runs at 2026-05-04 03:12:01 UTC"
    )
    assert by_caller.causes[0].advice == "oban jobs retry 7 runs it now"
    snoozed = only(facts("scheduled", scheduled_at=soon, meta={"snoozed": 3}))
    assert snoozed.text.startswith("it was snoozed, 3 times by now; it runs at")
    error = [{"attempt": 1, "error": "app.Mailer is unknown: sys.path has no module app"}]
    meta = {"unknown_worker": 4, "snoozed": 1}
    unknown = only(facts("scheduled", scheduled_at=soon, meta=meta, errors=error))
    assert unknown.code == "unknown_worker"
    assert "try 4 of 20" in unknown.text
    put_off = {"postponed": 2, "crashes": 3}
    assert only(facts("scheduled", scheduled_at=soon, meta=put_off)).code == "runs_alone"


def test_a_retryable_job_says_what_it_failed_with() -> None:
    error = [{"attempt": 2, "at": "2026-05-04T03:00:00Z", "error": TRACEBACK}]
    soon = NOW + timedelta(seconds=20)
    cause = only(facts("retryable", attempt=2, errors=error, scheduled_at=soon))
    assert cause.text == (
        "attempt 2 of 20 failed with ValueError: no such; it runs again at 2026-05-04 03:02:21 UTC"
    )


def test_what_was_due_long_ago_is_staged_by_nobody() -> None:
    late = explain(facts("retryable", attempt=1, runners=[], living_queues=[]))
    assert codes(late) == ["overdue", "backoff", "no_node"]
    assert late.summary.startswith("it is overdue: it was due 5 min ago")
    assert "no node is alive" in (late.causes[0].advice or "")
    assert codes(explain(facts("scheduled"))) == ["overdue", "scheduled"]
    assert codes(explain(facts("scheduled", scheduled_at=ago(seconds=1)))) == ["scheduled"]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("elsewhere")
def test_a_time_is_told_as_the_clocks_here_show_it_too() -> None:
    text = only(facts("scheduled", scheduled_at=NOW)).text
    assert text.endswith("at 2026-05-04 03:02:01 UTC (2026-05-04 12:02:01 here)")
    for end in (datetime.min, datetime.max):
        assert explain(facts("scheduled", scheduled_at=end.replace(tzinfo=UTC)))


def test_a_suspended_job_says_what_it_waits_for_if_its_row_does() -> None:
    assert "until somebody makes it available" in only(facts("suspended")).text
    meta = {"workflow_id": "w-1", "deps": ["a", "b"]}
    assert only(facts("suspended", meta=meta)).text == (
        "it belongs to workflow w-1, which makes it available after ['a', 'b']"
    )


# Executing


def executing(**given: Any) -> JobFacts:
    columns = {"attempt": 1, "attempted_by": ["web-1", UUID], "attempted_at": ago(seconds=90)}
    return facts("executing", **{**columns, "runner": runner(running=[7]), **given})


def test_a_running_job_says_where_and_how_long() -> None:
    found = explain(executing())
    assert codes(found) == ["running"]
    assert found.summary.startswith("it has run for 1 min: it runs on node web-1, attempt 1 of 20")
    assert found.causes[0].details["rescued_in"] == 9.0


def test_a_job_that_was_claimed_ahead_has_not_begun() -> None:
    processed = NOW.timestamp()
    assert only(executing(runner=runner(running=[], processed_at=processed))).code == "not_begun"
    before = ago(minutes=5).timestamp()
    assert only(executing(runner=runner(running=[], processed_at=before))).code == "running"
    assert only(executing(runner=runner(running="?", processed_at="?"))).code == "running"


def test_a_job_of_a_silent_node_waits_for_its_rescue() -> None:
    cause = only(executing(runner=runner(beat_age=30.0)))
    assert cause.code == "node_silent"
    assert "another node rescues the job" in cause.text
    nobody = only(executing(runner=runner(beat_age=None), living_queues=[]))
    assert nobody.advice == "start a node: it rescues what dead ones ran"


def test_what_else_is_told_of_a_running_job() -> None:
    assert only(executing(runner=None)).code == "foreign"
    assert only(executing(runner=runner(ours=False))).code == "foreign"
    assert codes(explain(executing(meta={"timeout": 30}))) == ["running", "past_timeout"]
    assert codes(explain(executing(meta={"timeout": 100}))) == ["running"]
    blocked = runner(running=[7], loop_lag=20.0)
    assert codes(explain(executing(runner=blocked))) == ["running", "loop_blocked"]
    leaving = runner(running=[7], shutdown_started_at="2026-05-04T03:02:00+00:00")
    assert codes(explain(executing(runner=leaving))) == ["running", "node_stopping"]


# Ended


def ended(state: str, error: str | None = None, **given: Any) -> JobFacts:
    at = "2026-05-04T03:01:01.000400Z"
    columns = {
        "attempt": 1,
        "attempted_by": ["web-1", UUID],
        "attempted_at": ago(minutes=3),
        f"{state}_at": ago(minutes=1),
        "errors": [] if error is None else [{"attempt": 1, "at": at, "error": error}],
    }
    return facts(state, **{**columns, **given})


def test_a_completed_job_says_how_long_it_ran_and_had_waited() -> None:
    found = explain(ended("completed"))
    assert found.summary == (
        "it completed 1 min ago: it was done by attempt 1 of 20 on node web-1, in 2 min, after it "
        "had waited for 2 min"
    )
    quick = ended("completed", attempted_at=ago(minutes=1, milliseconds=12))
    assert ", in 12 ms, after" in only(quick).text


@pytest.mark.parametrize(
    ("error", "given", "code"),
    [
        (None, {}, "cancelled"),
        ("its deadline was 2026-05-04T03:00:00+00:00", {}, "deadline_missed"),
        ("cancelled before it began", {}, "cancelled"),
        ("not needed", {}, "cancelled_itself"),
        (TRACEBACK, {}, "cancelled_itself"),
        (TRACEBACK, {"cancelled_at": ago(minutes=2)}, "cancelled"),
    ],
)
def test_a_cancelled_job_says_by_whom(error: str | None, given: Any, code: str) -> None:
    assert only(ended("cancelled", error, **given)).code == code


def test_a_cancelled_job_whose_code_goes_on_says_so_first() -> None:
    given = ended("cancelled", stopping_at=ago(minutes=1), runner=runner())
    assert codes(explain(given)) == ["stopping", "cancelled"]
    silent = ended("cancelled", stopping_at=ago(minutes=1), runner=runner(beat_age=60.0))
    assert "that node is silent" in first(silent).text


@pytest.mark.parametrize(
    ("error", "given", "code"),
    [
        (None, {}, "discarded"),
        ("available without an attempt left", {"attempt": 20}, "no_attempt_left"),
        (
            f"{DIED}web-1 has died, {SUSPECT}",
            {"meta": {"crashes": 5}},
            "suspect",
        ),
        (
            f"{DIED}web-1 has died. It was the last attempt",
            {"attempt": 20},
            "rescued_exhausted",
        ),
        (
            "app.Mailer is unknown: sys.path has no module app",
            {"meta": {"unknown_worker": 20}},
            "unknown_worker",
        ),
        ("no such customer", {}, "discarded_itself"),
        (TRACEBACK, {}, "discarded_itself"),
        (TRACEBACK, {"attempt": 20}, "attempts_exhausted"),
    ],
)
def test_a_discarded_job_says_why(error: str | None, given: Any, code: str) -> None:
    cause = only(ended("discarded", error, **given))
    assert cause.code == code
    assert "oban jobs retry 7 gives it another attempt" in (cause.advice or "")


def test_the_last_error_of_a_discarded_job_is_in_the_summary() -> None:
    summary = explain(ended("discarded", TRACEBACK, attempt=20)).summary
    assert summary == (
        "it was discarded 1 min ago: all 20 attempts failed, the last on node web-1 with "
        "ValueError: no such"
    )


# Unique keys


def test_a_unique_key_says_who_holds_it() -> None:
    marked = {"uniq": True, "uniq_key": "a" * 32}
    soon = NOW + timedelta(minutes=1)
    mine = KeyHolder(7, "scheduled")
    held = facts("scheduled", scheduled_at=soon, meta=marked, holder=mine)
    assert codes(explain(held)) == ["scheduled", "unique"]
    other = KeyHolder(9, "executing")
    assert "has passed to job 9, which is executing" in (
        explain(ended("completed", meta=marked, holder=other)).causes[1].text
    )
    assert codes(explain(ended("completed", meta=marked, holder=mine))) == ["completed"]
    lost = ended("completed", meta={"uniq_lost": "a" * 32}, holder=other)
    assert explain(lost).causes[1].text.startswith("it has lost its unique key to job 9")
    gone = ended("completed", meta={"uniq_lost": "a" * 32}, holder=None)
    assert "which is gone" in explain(gone).causes[1].text


# Whatever stands in a row

STRANGE: list[dict[str, Any]] = [
    {"args": [1]},
    {"meta": [1]},
    {"meta": "text"},
    {"meta": {"snoozed": "often", "crashes": True, "timeout": {}, "deadline_at": 5, "deps": {}}},
    {"meta": {"uniq_lost": [1], "workflow_id": {"a": 1}, "deadline_at": "yesterday"}},
    {"errors": {"error": "?"}},
    {"errors": "text"},
    {"errors": [17]},
    {"errors": [None]},
    {"errors": [{}]},
    {"errors": [{"error": ["x"], "at": "never", "attempt": "?"}]},
    {"errors": [{"error": "", "at": "9999-12-31T23:59:59-23:59"}]},
    {"attempted_by": [None]},
    {"attempted_by": ["node"]},
    {"scheduled_at": None, "attempted_at": None},
    {"queue": "a\nb\x1b[31m", "worker": "\x00"},
]


@pytest.mark.parametrize("columns", STRANGE, ids=str)
@pytest.mark.parametrize("state", [*JobState])
def test_no_row_breaks_it(state: str, columns: dict[str, Any]) -> None:
    strange = runner(
        running={}, limit="many", paused="yes", loop_lag="x", rate_limit=3, processed_at=[]
    )
    given = facts(state, runners=[strange], runner=strange, **columns)
    found = explain(given)
    assert found.causes
    assert all(each.text for each in found.causes)


def test_a_state_of_a_newer_package_is_told_as_it_is() -> None:
    found = explain(replace(facts(), job=restored(state="dreaming", id=1, worker="w", queue="q")))
    assert codes(found) == ["unknown_state"]
    assert found.summary.startswith("it is dreaming: ")


@pytest.mark.parametrize(
    ("text", "gist"),
    [
        (TRACEBACK, "ValueError: no such"),
        ("\n  one\ntwo", "one"),
        ("", "no reason given"),
        ("Traceback (most recent call last)", "Traceback (most recent call last)"),
        ("x" * 500, "x" * 199 + "…"),
    ],
)
def test_the_gist_of_an_error_is_what_was_raised(text: str, gist: str) -> None:
    assert KeptError(text).gist == gist
