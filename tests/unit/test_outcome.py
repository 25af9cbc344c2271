import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from oban import Cancel, Discard, JobState, Record, Snooze, recorded
from oban.outcome import RECORD_LIMIT, Ack

OUTCOMES = (Record(1), Snooze(1), Cancel(), Discard())


@pytest.mark.parametrize("outcome", OUTCOMES, ids=repr)
def test_an_outcome_cannot_be_changed_afterwards(outcome: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(outcome, dataclasses.fields(outcome)[0].name, 2)


# Record


def test_a_record_is_encoded_when_it_is_made() -> None:
    value = {"sent": [1]}
    record = Record(value)
    value["sent"].append(2)
    assert recorded.decode(record.encoded) == {"sent": [1]}


def test_two_records_of_equal_values_are_equal() -> None:
    assert Record([1]) == Record([1]) != Record([2])


def test_a_value_that_cannot_be_kept_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="cannot record object"):
        Record({"a": object()})


def test_the_limit_is_in_bytes_of_the_encoded_value() -> None:
    fits = Record("x" * 94, limit=100)  # a version byte, a tag, four of the length, the text
    assert recorded.encoded_size(fits.encoded) == 100
    with pytest.raises(ValueError, match="takes 101 bytes, the limit is 100"):
        Record("x" * 95, limit=100)


def test_the_default_limit_is_that_of_the_contract() -> None:
    assert Record(None).limit == RECORD_LIMIT == 64_000_000


def test_a_restored_record_is_read_when_its_value_is_asked_for() -> None:
    restored = Record.restore(Record({"a": [1]}).encoded)
    assert restored.value == {"a": [1]}
    assert restored == Record({"a": [1]})
    unread = Record.restore("no value of any kind")
    assert unread.encoded == "no value of any kind"
    with pytest.raises(ValueError, match="not a recorded value"):
        unread.value  # reading it is what is tested
    with pytest.raises(AttributeError):
        unread.size  # type: ignore[attr-defined]


# Snooze


@pytest.mark.parametrize("given", [0, 5, 0.5, timedelta(days=1)])
def test_a_snooze_takes_seconds_or_a_timedelta(given: Any) -> None:
    assert Snooze(given).seconds == given


@pytest.mark.parametrize("given", [-1, -0.5, timedelta(seconds=-1), "5", None, True, float("nan")])
def test_a_snooze_into_the_past_or_into_nothing_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="seconds is"):
        Snooze(given)


@pytest.mark.parametrize(
    ("meta", "told"),
    [
        ({"a": object()}, "meta\\['a'\\] is a object"),
        ({"a": "\0"}, "meta holds a NUL"),
        ([1], "meta is \\[1\\]; it is a dict"),
        ("text", "meta is 'text'"),
    ],
)
def test_the_meta_of_a_snooze_is_a_dict_that_the_database_takes(meta: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Snooze(5, meta=meta)


# Ack


def test_an_ack_is_known_by_its_job_and_attempt() -> None:
    assert Ack(7, 2, JobState.COMPLETED).key == (7, 2)


def test_an_attempt_counts_unless_said_otherwise() -> None:
    assert Ack(7, 2, JobState.COMPLETED).counted is True
