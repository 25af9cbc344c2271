import json
import pickle
from collections import OrderedDict
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.rows import NOTHING, restored

from oban import Job, JobState, recorded
from oban.errors import InvalidJob
from oban.fields import MAX_ATTEMPTS, seconds, to_json
from oban.job import JOB_FIELDS, clean_changes, due_at
from oban.states import FINAL, MOVES, WAITING, states_before

NOW = datetime.now(UTC)
LATER = NOW + timedelta(hours=1)
EARLIER = NOW - timedelta(hours=1)

anything = st.text() | st.text(st.characters(categories=["Cs", "Cc", "L"]))
scalars = st.none() | st.booleans() | st.integers() | st.floats() | anything
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(anything, inner), max_leaves=10
)


def refusal(**fields: Any) -> str:
    with pytest.raises(InvalidJob) as caught:
        Job(**{"worker": "W", **fields})
    assert isinstance(caught.value, ValueError)
    return str(caught.value)


# Building


def test_the_defaults_are_those_of_the_contract() -> None:
    job = Job(worker="W")
    assert (job.queue, job.state, job.priority, job.max_attempts) == ("default", "available", 0, 20)
    assert (job.attempt, job.args, job.meta, job.tags, job.errors) == (0, {}, {}, [], [])
    assert (job.id, job.inserted_at, job.scheduled_at, job.extra) == (None, None, None, {})
    assert job.cancelled() is False


def test_two_jobs_share_no_value() -> None:
    one, other = Job(worker="W"), Job(worker="W")
    one.args["a"] = one.meta["b"] = one.extra["c"] = 1
    one.tags.append("d")
    assert other == Job(worker="W")
    assert other.extra == {}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"queue": ""}, ["queue is ''", "1 to 127"]),
        ({"queue": " \n"}, ["queue is ' \\n'", "1 to 127"]),
        ({"queue": None}, ["queue is None", "1 to 127"]),
        ({"queue": 7}, ["queue is 7"]),
        ({"queue": "q" * 128}, ["queue has 128 characters", "at most 127"]),
        ({"worker": "w" * 128}, ["worker has 128 characters", "at most 127"]),
        ({"worker": ""}, ["worker is ''"]),
        ({"worker": "a\0b"}, ["worker holds a NUL"]),
        ({"queue": "\ud800"}, ["queue is not valid Unicode"]),
        ({"priority": 10}, ["priority is 10", "0 to 9"]),
        ({"priority": -1}, ["priority is -1", "0 to 9"]),
        ({"priority": 1.0}, ["priority is 1.0", "whole number"]),
        ({"priority": True}, ["priority is True", "whole number"]),
        ({"priority": "1"}, ["priority is '1'"]),
        ({"max_attempts": 0}, ["max_attempts is 0", "1 to 32767"]),
        ({"max_attempts": MAX_ATTEMPTS + 1}, ["max_attempts is 32768", "1 to 32767"]),
        ({"max_attempts": None}, ["max_attempts is None"]),
        ({"attempt": -1}, ["attempt is -1", "0 to 32767"]),
        ({"attempt": 3, "max_attempts": 2}, ["attempt is 3", "max_attempts, which is 2"]),
        ({"state": "running"}, ["state is 'running'", "available, scheduled, suspended"]),
        ({"scheduled_at": datetime(2030, 1, 1)}, ["scheduled_at", "names no time zone"]),
        ({"scheduled_at": date(2030, 1, 1)}, ["scheduled_at", "aware datetime"]),
        ({"scheduled_at": "tomorrow"}, ["scheduled_at is 'tomorrow'", "aware datetime"]),
        ({"inserted_at": 5}, ["inserted_at is 5"]),
        (
            {"scheduled_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))},
            ["scheduled_at", "9999"],
        ),
        (
            {"scheduled_at": datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))},
            ["scheduled_at", "0001"],
        ),
        ({"tags": "urgent"}, ["tags is 'urgent'", "list of words"]),
        ({"tags": 5}, ["tags is 5", "list of words"]),
        ({"tags": ["a", 5]}, ["tags holds 5", "text"]),
        ({"tags": ["\0"]}, ["tags holds a NUL"]),
        ({"args": [1]}, ["args is [1]", "dict"]),
        ({"args": None}, ["args is None", "dict"]),
        ({"meta": "x"}, ["meta is 'x'", "dict"]),
        ({"args": {"at": NOW}}, ["args['at'] is a datetime", "use str"]),
        ({"args": {"a": [{"b": Decimal(1)}]}}, ["args['a'][0]['b'] is a Decimal"]),
        ({"args": {"a": (1, {2})}}, ["args['a'][1] is a set"]),
        ({"args": {"a": {"b": float("nan")}}}, ["args['a']['b'] is nan"]),
        ({"meta": {"a": float("-inf")}}, ["meta['a'] is -inf"]),
        ({"args": {"a": {(1, 2): 3}}}, ["args['a'] has the key (1, 2)", "str"]),
        ({"args": {"a": "x\0y"}}, ["args holds a NUL"]),
        ({"args": {"a\0": 1}}, ["args holds a NUL"]),
        ({"args": {"a": "\udc80"}}, ["args holds text that is not valid Unicode"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_is_refused_with_field_value_and_what_is_allowed(
    fields: dict[str, Any], told: list[str]
) -> None:
    message = refusal(**fields)
    for part in told:
        assert part in message


def test_args_that_contain_themselves_are_refused() -> None:
    args: dict[str, Any] = {"a": []}
    args["a"].append(args)
    assert "contains itself" in refusal(args=args)


@pytest.mark.parametrize("leaf", [1, object()])
@pytest.mark.parametrize("depth", [400, 700, 3000, 100_000])
def test_args_of_any_depth_are_taken_or_refused(depth: int, leaf: object) -> None:
    nested: Any = leaf
    for _ in range(depth):
        nested = [nested]
    try:
        Job(worker="W", args={"a": nested})
        told = ""
    except InvalidJob as refused:
        told = str(refused)
    while isinstance(nested, list):
        nested = nested.pop()
    assert "deeply" in told or ("is a object" in told if leaf != 1 else told == "")


def test_a_field_that_does_not_exist_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="retries"):
        Job(worker="W", retries=3)  # type: ignore[call-arg]


def test_the_longest_name_fits() -> None:
    assert Job(worker="w" * 127, queue="ü" * 127).queue == "ü" * 127


@given(value=values)
@example(value={"a": "\\u0000"})
@example(value=["\\\\u0000", "\\\0"])
@example(value="\ud83d\ude00")
def test_json_is_written_exactly_or_refused_by_name(value: Any) -> None:
    if not is_storable(value):
        with pytest.raises(InvalidJob, match="args"):
            to_json("args", value)
        return
    text = to_json("args", value)
    assert json.loads(text) == value
    assert text.encode("utf-8")


def is_storable(value: Any) -> bool:
    """Whether PostgreSQL's jsonb can hold it: said again, without writing any JSON."""
    match value:
        case str():
            return "\0" not in value and not any("\ud800" <= each <= "\udfff" for each in value)
        case float():
            return value - value == 0
        case dict():
            return all(is_storable(key) and is_storable(item) for key, item in value.items())
        case list():
            return all(map(is_storable, value))
    return True


@pytest.mark.parametrize("mapping", [OrderedDict(a=1), MappingProxyType({"a": 1})])
def test_args_may_be_any_mapping(mapping: Any) -> None:
    assert Job(worker="W", args=mapping).args == {"a": 1}


@given(tags=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
def test_tags_have_one_normal_form(tags: list[str]) -> None:
    clean = Job(worker="W", tags=tags).tags
    assert clean == sorted(set(clean))
    assert "" not in clean
    assert all(tag == tag.strip().lower() for tag in clean)
    assert {tag.strip().lower() for tag in tags} - {""} == set(clean)
    assert Job(worker="W", tags=reversed(clean)).tags == clean  # type: ignore[arg-type]


@given(moment=st.datetimes(timezones=st.timezones()))
def test_moments_are_kept_in_utc(moment: datetime) -> None:
    try:
        job = Job(worker="W", scheduled_at=moment)
    except InvalidJob:
        assert moment.year in (1, 9999)
        return
    assert job.scheduled_at is not None
    assert job.scheduled_at.tzinfo is UTC
    assert job.scheduled_at.timestamp() == moment.timestamp()


def test_a_job_due_later_is_scheduled_and_one_due_before_is_available() -> None:
    assert Job(worker="W", scheduled_at=LATER).state is JobState.SCHEDULED
    assert Job(worker="W", scheduled_at=EARLIER).state is JobState.AVAILABLE
    assert Job(worker="W", scheduled_at=LATER, state=JobState.SUSPENDED).state == "suspended"


def test_a_state_may_be_given_as_text() -> None:
    assert Job(worker="W", state="suspended").state is JobState.SUSPENDED  # type: ignore[arg-type]


def test_its_repr_shows_no_arguments() -> None:
    shown = repr(Job(worker="a.W", args={"password": "hunter2"}, meta={"token": "t0ken"}))
    assert shown == "Job(id=None, worker='a.W', queue='default', state='available', attempt=0/20)"


def test_what_a_caller_keeps_with_a_job_is_no_part_of_its_value() -> None:
    assert Job(worker="W", extra={"a": 1}) == Job(worker="W")


def test_a_job_travels_to_another_process() -> None:
    job = Job(worker="W", args={"a": [1]}, tags=["x"], scheduled_at=LATER)
    assert pickle.loads(pickle.dumps(job)) == job


def test_the_fields_are_the_columns() -> None:
    assert set(JOB_FIELDS) == {
        "id", "state", "queue", "worker", "attempt", "max_attempts", "priority", "args", "meta",
        "errors", "tags", "attempted_by", "inserted_at", "scheduled_at", "attempted_at",
        "completed_at", "cancelled_at", "discarded_at",
    }  # fmt: skip


# Rows


def test_a_restored_job_is_what_the_row_holds() -> None:
    columns = {"priority": 12, "queue": "", "args": [1], "state": "new", "attempt": 9}
    job = restored(**columns)
    assert {name: getattr(job, name) for name in JOB_FIELDS} == NOTHING | columns
    assert job.extra == {}
    assert job.cancelled() is False


@pytest.mark.parametrize(
    "meta", [{}, {"recorded": False, "return": "x"}, {"return": "x"}, None, [], ["recorded"], 7]
)
def test_nothing_recorded_reads_as_none(meta: Any) -> None:
    assert restored(meta=meta).recorded() is None


@pytest.mark.parametrize("returned", ["", "?", "gw", None, 5, [1], "ü"])
def test_a_record_that_is_none_is_a_value_error(returned: Any) -> None:
    with pytest.raises(ValueError, match="recorded value"):
        restored(meta={"recorded": True, "return": returned}).recorded()
    with pytest.raises(ValueError, match="recorded value"):
        restored(meta={"recorded": True}).recorded()


def test_a_record_is_read_back() -> None:
    meta = {"recorded": True, "return": recorded.encode({"a": [1, None]})}
    assert restored(meta=meta).recorded() == {"a": [1, None]}


# Changes


def test_an_update_validates_and_applies_and_returns_the_job() -> None:
    job = Job(worker="W")
    assert job.update({"priority": 3, "tags": ["B", "a "], "schedule_in": 60}) is job
    assert (job.priority, job.tags, job.state) == (3, ["a", "b"], "scheduled")
    assert job.scheduled_at is not None
    assert timedelta(seconds=59) < job.scheduled_at - datetime.now(UTC) <= timedelta(seconds=60)


def test_a_new_time_means_a_new_state() -> None:
    job = Job(worker="W", scheduled_at=LATER)
    assert job.update({"scheduled_at": EARLIER}).state is JobState.AVAILABLE
    assert job.update({"scheduled_at": LATER}).state is JobState.SCHEDULED
    done = Job(worker="W", state=JobState.COMPLETED)
    assert done.update({"scheduled_at": LATER}).state is JobState.COMPLETED


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"priority": 10}, ["priority is 10", "0 to 9"]),
        ({"state": "completed"}, ["cannot update state", "worker and schedule_in"]),
        ({"id": 5, "errors": []}, ["cannot update errors, id"]),
        ({5: 1, "nope": 2}, ["cannot update 5, nope"]),
        ({"scheduled_at": None}, ["scheduled_at is None"]),
        ({"schedule_in": None}, ["scheduled_at is None"]),
        ({"scheduled_at": LATER, "schedule_in": 5}, ["both given"]),
        ({"max_attempts": 2}, ["attempt is 3", "max_attempts, which is 2"]),
        ({"args": {"a": object()}}, ["args['a'] is a object"]),
        ("priority", ["changes are a dict", "'priority'"]),
        (None, ["changes are a dict"]),
    ],
    ids=lambda value: ",".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_a_wrong_change_leaves_the_job_as_it_was(changes: Any, told: list[str]) -> None:
    job = Job(worker="W", attempt=3)
    before = pickle.dumps(job)
    with pytest.raises(InvalidJob) as caught:
        job.update({"queue": "other", **changes} if isinstance(changes, dict) else changes)
    assert pickle.dumps(job) == before
    for part in told:
        assert part in str(caught.value)


def test_changes_are_cleaned_and_the_given_dict_is_left_alone() -> None:
    given: dict[str, Any] = {"schedule_in": timedelta(minutes=1)}
    assert set(clean_changes(given)) == {"scheduled_at"}
    assert given == {"schedule_in": timedelta(minutes=1)}


# Times


def test_due_at_takes_one_of_two() -> None:
    assert due_at(None, None) is None
    assert due_at(LATER, None) == LATER
    with pytest.raises(InvalidJob, match="both given"):
        due_at(LATER, 5)


@pytest.mark.parametrize(
    ("value", "meant"), [(5, 5.0), (0.5, 0.5), (timedelta(minutes=1), 60.0), (-3, -3.0)]
)
def test_seconds_are_a_number_or_a_timedelta(value: Any, meant: float) -> None:
    assert seconds("schedule_in", value) == meant


@pytest.mark.parametrize(
    "value",
    [True, "5", None, float("nan"), float("inf"), 10**400, -(10**10), timedelta.max, timedelta.min],
)
def test_what_is_no_number_of_seconds_is_refused(value: Any) -> None:
    with pytest.raises(InvalidJob, match="schedule_in is"):
        seconds("schedule_in", value)


# States


def test_every_state_has_its_moves() -> None:
    assert set(MOVES) == set(JobState)
    assert FINAL | WAITING | {JobState.EXECUTING} == set(JobState)
    assert not FINAL & WAITING
    for state, reached in MOVES.items():
        assert state not in reached


def test_what_is_final_moves_only_by_a_retry() -> None:
    for state in FINAL:
        assert MOVES[state] == {JobState.AVAILABLE}


def test_only_what_is_available_starts() -> None:
    assert states_before(JobState.EXECUTING) == [JobState.AVAILABLE]


def test_everything_unfinished_can_be_cancelled() -> None:
    assert set(states_before(JobState.CANCELLED)) == set(JobState) - FINAL
