"""A reader never fails: a row that somebody else wrote must not break a fetch."""

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oban import JobState
from oban.engines.postgres.rows import (
    CLAIMED_COLUMNS,
    COLUMN_LISTS,
    COLUMNS,
    EARLIEST,
    EPOCH,
    LATEST,
    UNREADABLE,
    moment,
    read_claimed,
    read_job,
)
from oban.engines.runs import ProducerIdentity

NAMES = (
    "id", "state", "queue", "worker", "attempt", "max_attempts", "priority", "args", "meta",
    "errors", "tags", "attempted_by", "inserted_at", "scheduled_at", "attempted_at",
    "completed_at", "cancelled_at", "discarded_at",
)  # fmt: skip
PLAIN: dict[str, Any] = {
    "id": 7, "state": "completed", "queue": "q", "worker": "W", "attempt": 1, "max_attempts": 3,
    "priority": 2, "args": '{"a": 1}', "meta": '{"b": [2]}', "errors": '[{"attempt": 1}]',
    "tags": ["x"], "attempted_by": ["node", "uuid"], "inserted_at": 1.5, "scheduled_at": 2.0,
    "attempted_at": None, "completed_at": 1e9, "cancelled_at": None, "discarded_at": None,
}  # fmt: skip

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=3,
)
#: What a jsonb column can hold, as text; and what cannot be parsed here, although it can there.
json_texts = st.none() | json_values.map(json.dumps) | st.text()
epochs = st.none() | st.floats()


def row(**columns: Any) -> list[Any]:
    return [(PLAIN | columns)[name] for name in NAMES]


def test_a_row_of_ours_is_a_job_with_every_field() -> None:
    job = read_job(row())
    assert (job.id, job.state, job.queue, job.worker) == (7, JobState.COMPLETED, "q", "W")
    assert (job.attempt, job.max_attempts, job.priority) == (1, 3, 2)
    assert (job.args, job.meta, job.errors) == ({"a": 1}, {"b": [2]}, [{"attempt": 1}])
    assert (job.tags, job.attempted_by) == (["x"], ["node", "uuid"])
    assert job.inserted_at == EPOCH + timedelta(seconds=1.5)
    assert (job.attempted_at, job.completed_at) == (
        None,
        datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC),
    )
    assert job.extra == {}


def test_what_follows_the_columns_of_a_job_is_left_alone() -> None:
    assert read_job([*row(), "more", 5]) == read_job(row())


def test_a_list_of_columns_is_as_long_as_a_job() -> None:
    assert len(COLUMNS) == len(NAMES)
    assert COLUMN_LISTS["no_claimed_columns"].count("null") == len(CLAIMED_COLUMNS)


PRODUCER = ProducerIdentity("uuid", "Oban", "node", "q")
#: What the claimant knows of a job, and so is not sent.
KNOWN = {"state": "executing", "queue": "q", "attempted_by": ["node", "uuid"]}


@given(
    args=st.dictionaries(st.text(), json_values).map(json.dumps),
    meta=st.none() | st.just('{"a": [1]}'),
    errors=st.none() | st.just('[{"attempt": 1}]'),
    tags=st.none() | st.just(["x"]),
    moments=st.lists(st.none() | st.floats(0, 4e9), min_size=6, max_size=6),
)
def test_a_claimed_row_is_the_job_that_the_whole_row_is(
    args: str, meta: str | None, errors: str | None, tags: list[str] | None, moments: list[Any]
) -> None:
    shared = dict(zip(NAMES[-6:], moments, strict=True))
    columns = {"args": args, "meta": meta, "errors": errors, "tags": tags, **shared}
    whole = row(**KNOWN, **columns)
    narrow = [(PLAIN | columns)[name] for name in NAMES if name not in KNOWN]
    (job,) = read_claimed([narrow], PRODUCER)
    assert job == read_job(whole)


def test_jobs_of_one_claim_share_its_time_and_nothing_else() -> None:
    narrow = [PLAIN[name] for name in NAMES if name not in KNOWN]
    one, other = read_claimed([narrow, narrow], PRODUCER)
    assert one == other
    for name in ("args", "meta", "errors", "attempted_by", "extra"):
        assert getattr(one, name) is not getattr(other, name)


@given(
    columns=st.fixed_dictionaries(
        {
            "state": st.sampled_from(list(JobState)) | st.text(),
            "args": json_texts,
            "meta": json_texts,
            "errors": json_texts,
            "tags": st.none() | st.lists(st.none() | st.text()),
            "attempted_by": st.none() | st.lists(st.none() | st.text()),
            "priority": st.integers() | st.none(),
            "max_attempts": st.integers() | st.none(),
            **dict.fromkeys(NAMES[12:], epochs),
        }
    )
)
def test_no_row_is_an_error(columns: dict[str, Any]) -> None:
    job = read_job(row(**columns))
    assert job.state == columns["state"]
    assert isinstance(job.tags, list)
    readable = all(is_a(kind, columns[name]) for name, kind in KINDS.items())
    assert (UNREADABLE in job.extra) is not readable


KINDS: dict[str, type] = {"args": dict, "meta": dict, "errors": list}


def is_a(kind: type, text: str | None) -> bool:
    try:
        value = None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return False
    return value is None or isinstance(value, kind)


@pytest.mark.parametrize("column", ["args", "meta", "errors"])
def test_null_is_empty(column: str) -> None:
    empty: Any = [] if column == "errors" else {}
    for nothing in (None, "null", json.dumps(empty)):
        job = read_job(row(**{column: nothing}))
        assert getattr(job, column) == empty
        assert job.extra == {}


def test_two_rows_share_no_empty_value() -> None:
    one, other = (read_job(row(args="{}", meta=None, errors="[]", tags=None)) for _ in "ab")
    one.args["a"] = one.meta["b"] = 1
    one.errors.append({})
    one.tags.append("x")
    assert (other.args, other.meta, other.errors, other.tags) == ({}, {}, [], [])


@pytest.mark.parametrize(
    ("column", "text", "told"),
    [
        ("args", "[1, 2]", "args is [1, 2], which is not an object"),
        ("meta", '"text"', 'meta is "text", which is not an object'),
        ("errors", "{}", "errors is {}, which is not a list"),
        ("args", "1" + "0" * 5000, "args cannot be read: ValueError"),
        ("meta", "[" * 100_000 + "]" * 100_000, "meta cannot be read: RecursionError"),
        ("args", json.dumps("x" * 10_000), "args is"),
    ],
)
def test_what_cannot_be_used_is_noted_with_the_job(column: str, text: str, told: str) -> None:
    job = read_job(row(**{column: text}))
    noted = job.extra[UNREADABLE]
    assert told in noted
    assert len(noted) < 500
    assert job.id == 7


def test_a_state_that_a_newer_package_brought_stays_the_text_it_is() -> None:
    assert read_job(row(state="paused")).state == "paused"


@given(epoch=st.floats())
@example(epoch=math.inf)
@example(epoch=-math.inf)
@example(epoch=math.nan)
@example(epoch=253_402_300_800.0)
def test_a_moment_lies_in_the_calendar(epoch: float) -> None:
    read = moment(epoch)
    assert read is None or EARLIEST <= read <= LATEST
    if read not in (None, EARLIEST, LATEST):
        assert read is not None
        assert abs(read.timestamp() - epoch) < 0.001


@given(written=st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_a_moment_of_our_time_is_read_to_the_microsecond(written: datetime) -> None:
    assert moment(written.timestamp()) == written
