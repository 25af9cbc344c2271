"""What makes two jobs the same, and what `unique` may be."""

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oban import Job, JobState
from oban.errors import InvalidJob
from oban.states import FINAL
from oban.unique import BITS, GROUPS, Unique

NAMES = st.text(min_size=1, max_size=5).filter(lambda text: "\0" not in text)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def unique(given: object = True) -> Unique:
    found = Unique.parse(given)
    assert found is not None
    return found


def key(options: object, **fields: Any) -> str:
    return unique(options).key(Job(**{"worker": "app.Mailer", **fields}))


@pytest.mark.parametrize("given", [None, False])
def test_nothing_asked_for_is_nothing(given: object) -> None:
    assert Unique.parse(given) is None
    assert Job(worker="w", unique=given).unique is None  # type: ignore[arg-type]


def test_true_compares_worker_queue_and_arguments_without_end() -> None:
    found = unique()
    assert found == Unique.parse({})
    assert found.fields == ("worker", "queue", "args")
    assert found.period is None
    assert found.states == GROUPS["successful"]
    assert found.timestamp == "inserted_at"
    assert found.replace == {}


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (60, 60.0),
        (0.5, 0.5),
        (timedelta(minutes=2), 120.0),
        (math.inf, None),
        ("infinity", None),
        (None, None),
    ],
)
def test_a_period_is_seconds_or_without_end(given: object, seconds: float | None) -> None:
    assert unique({"period": given}).period == seconds


def test_groups_are_sets_of_states() -> None:
    assert set(BITS) == set(JobState)
    assert sorted(BITS.values()) == list(range(8))
    assert unique({"group": "all"}).states == frozenset(JobState)
    assert unique({"states": "incomplete"}).states == frozenset(JobState) - FINAL
    assert unique({"group": "scheduled"}).states == {"scheduled"}
    listed = unique({"states": ["available", JobState.EXECUTING]})
    assert listed.states == {"available", "executing"}
    assert listed.bits == 0b110
    assert listed.marks == {"uniq": True, "uniq_bmp": [1, 2]}


@given(args=st.dictionaries(NAMES, VALUES, max_size=4))
def test_the_order_of_keys_makes_no_difference(args: dict[str, Any]) -> None:
    turned = dict(reversed(args.items()))
    assert key(True, args=args) == key(True, args=turned)


@given(
    one=st.dictionaries(NAMES, VALUES, max_size=3),
    other=st.dictionaries(NAMES, VALUES, max_size=3),
)
def test_arguments_that_differ_make_jobs_that_differ(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    same = repr(one) == repr(other) or one == other
    if not same:
        assert key(True, args=one) != key(True, args=other)


def test_numbers_as_keys_are_what_json_makes_of_them() -> None:
    numbers: Any = {n: n for n in range(12)}
    texts = {str(n): n for n in range(12)}
    assert key(True, args=numbers) == key(True, args=texts)
    assert key(True, args={"in": [numbers]}) == key(True, args={"in": [texts]})


def test_only_the_fields_that_are_named_are_compared() -> None:
    options = {"fields": ["worker"]}
    assert key(options, args={"n": 1}) == key(options, args={"n": 2}, queue="other")
    assert key(options) != key(options, worker="app.Other")
    assert key({"fields": ["worker", "queue"]}) != key({"fields": ["worker", "queue"]}, queue="q")


def test_meta_is_compared_without_what_uniqueness_itself_wrote() -> None:
    options = {"fields": ["worker", "meta"]}
    assert key(options, meta={"a": 1}) == key(options, meta={"a": 1, "uniq": True, "uniq_key": "x"})
    assert key(options, meta={"a": 1}) != key(options, meta={"a": 2})


def test_keys_pick_arguments_and_dots_lead_further_down() -> None:
    options = {"keys": ["user.id", "plan"]}
    one = key(options, args={"user": {"id": 1, "name": "a"}, "plan": "x", "at": 1})
    assert one == key(options, args={"user": {"id": 1, "name": "b"}, "plan": "x", "at": 2})
    assert one != key(options, args={"user": {"id": 2}, "plan": "x"})
    assert key(options, args={"plan": None}) != key(options, args={})
    assert key({"keys": ["a.b"]}, args={"a.b": 1}) == key({"keys": ["a.b"]}, args={"a": {"b": 1}})
    assert key({"keys": ["a.b"]}, args={"a": 5}) == key({"keys": ["a.b"]}, args={})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("yes", "it is True or a dict of period, fields"),
        ({"perod": 1}, r"no 'perod' \(the nearest is period\)"),
        ({"period": 0}, "number of seconds above 0"),
        ({"period": "soon"}, "number of seconds above 0"),
        ({"period": True}, "number of seconds above 0"),
        ({"period": math.nan}, "number of seconds above 0"),
        ({"fields": []}, "unique.fields is empty"),
        ({"fields": "args"}, "it is a list of worker, queue, args, meta"),
        ({"fields": ["arg"]}, r"'arg' \(the nearest is args\)"),
        ({"keys": "id"}, "a list of keys"),
        ({"keys": [""]}, "a dot leads further down"),
        ({"keys": ["a..b"]}, "a dot leads further down"),
        ({"keys": ["id"], "fields": ["worker"]}, "keys pick from args or meta"),
        ({"states": ["available"], "group": "all"}, "both given"),
        ({"group": "every"}, "there are all, incomplete, scheduled, successful"),
        ({"states": ["avail"]}, r"'avail' \(the nearest is available\)"),
        ({"states": ["executing", "completed"]}, "a job begins in none of them"),
        ({"timestamp": "completed_at"}, "there are inserted_at, scheduled_at"),
        ({"replace": {"availble": ["args"]}}, r"\(the nearest is available\)"),
        ({"replace": {"available": ["arg"]}}, r"'arg' \(the nearest is args\)"),
        ({"replace": {"available": []}}, "unique.replace.available is empty"),
        ({"replace": {"cancelled": ["args"]}}, "a job in that state is no conflict"),
        ({"replace": "args"}, "it is a dict of states"),
    ],
)
def test_what_it_cannot_be_is_told_with_what_it_can(given: object, message: str) -> None:
    with pytest.raises(InvalidJob, match=message):
        Unique.parse(given)
    with pytest.raises(InvalidJob, match=message):
        Job(worker="w", unique=given)  # type: ignore[arg-type]


def test_a_bare_list_replaces_in_every_state_in_which_a_job_waits() -> None:
    replaced = unique({"replace": ["args", "schedule"]}).replace
    assert replaced.keys() == {"available", "retryable", "scheduled", "suspended"}
    assert set(replaced.values()) == {("args", "schedule")}
