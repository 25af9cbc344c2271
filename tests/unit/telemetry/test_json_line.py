import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oban.telemetry.json_line import json_line
from oban.telemetry.plain import LONGEST_TEXT

from .conftest import AJob


def fields(metadata: dict[str, Any], name: str = "oban.test", **options: bool) -> dict[str, Any]:
    line = json_line(name, logging.INFO, metadata, **options)
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_job_is_flattened_and_durations_are_milliseconds(job: AJob) -> None:
    told = {
        "state": "completed",
        "duration": 12_345_678,
        "queue_time": 4_100_000,
        "monotonic_time": 7,
    }

    line = fields({"job": job, **told}, "oban.job.stop")

    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {
        "level": "info",
        "event": "oban.job.stop",
        "id": 42,
        "worker": "app.MailerWorker",
        "queue": "mailers",
        "attempt": 1,
        "max_attempts": 20,
        "meta": {},
        "tags": ["welcome"],
        "state": "completed",
        "duration": 12.346,
        "queue_time": 4.1,
    }


def test_time_level_and_event_come_first_and_are_never_overwritten() -> None:
    line = fields({"event": "forged", "level": "forged", "count": 1})

    assert list(line) == ["time", "level", "event", "count"]
    assert (line["level"], line["event"]) == ("info", "oban.test")


def test_what_became_of_very_many_jobs_is_cut() -> None:
    shown = fields({"jobs": dict.fromkeys(range(5_000), "rescued")})["jobs"]

    assert len(shown) == 101
    assert shown["…"] == "4900 more"


def test_the_traceback_of_an_outage_stays() -> None:
    told = {"error_type": "DatabaseUnavailable", "traceback": "Traceback…"}

    assert fields(told, "oban.stager.outage")["traceback"] == "Traceback…"


def test_a_recorded_result_is_left_out(job: AJob) -> None:
    job.meta = {"recorded": True, "return": "g20AAAAGc2VjcmV0", "cron": True}

    assert fields({"job": job})["meta"] == {"recorded": True, "cron": True}


def test_a_field_the_job_lacks_is_left_out() -> None:
    @dataclass
    class Foreign:
        id: int = 7

    line = fields({"job": Foreign()})

    assert line["id"] == 7
    assert "worker" not in line


@pytest.mark.parametrize("nan", [0.0, float("nan")], ids=["directly", "as plain data"])
@pytest.mark.parametrize("wrap", [lambda job: job, lambda job: [job], lambda job: {"k": {0: job}}])
@pytest.mark.parametrize("args", [False, True])
def test_a_job_anywhere_in_the_metadata_tells_its_args_only_when_asked(
    args: bool, wrap: Any, nan: float, job: AJob
) -> None:
    line = json_line("oban.test", 20, {"held": wrap(job), "number": nan}, args=args)

    assert "app.MailerWorker" in line
    assert ("hunter2" in line) is args


def test_common_values_read_naturally() -> None:
    class State(StrEnum):
        completed = "completed"

    uuid = UUID(int=5)
    moment = datetime(2030, 1, 2, tzinfo=UTC)

    line = fields({"s": State.completed, "u": uuid, "t": moment, "set": {1}, "d": Decimal(1)})

    assert line["s"] == "completed"
    assert line["u"] == str(uuid)
    assert line["t"] == "2030-01-02T00:00:00+00:00"
    assert line["set"] == [1]
    assert line["d"] == "Decimal('1')"


def itself() -> list[Any]:
    cycle: list[Any] = []
    cycle += [cycle, cycle]
    return cycle


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError("nothing to say")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ({(1, 2): 3, "k": 4}, {"(1, 2)": 3, "k": 4}),
        (Mute(), "<Mute: RuntimeError in __repr__>"),
        ([Mute()], ["<Mute: RuntimeError in __repr__>"]),
        (10**5000, "<int: ValueError in __repr__>"),
        ("\ud800\x00\u2028", "\ud800\x00\u2028"),
    ],
    ids=["nan", "infinity", "odd keys", "mute", "mute inside", "huge integer", "odd text"],
)
def test_what_json_refuses_is_described(value: Any, shown: Any) -> None:
    line = json_line("oban.test", 20, {"value": value, "beside": "kept"})

    assert json.loads(line)["value"] == shown
    assert json.loads(line)["beside"] == "kept"
    assert line.isascii()
    assert line.isprintable()


def test_metadata_that_holds_itself_is_cut() -> None:
    line = json_line("oban.test", 20, {"value": itself()})

    assert "\\u2026" in line
    assert len(line) < 10_000


def test_very_long_text_is_cut_with_a_mark() -> None:
    line = fields({"traceback": "x" * (LONGEST_TEXT + 5)})

    assert line["traceback"] == f"{'x' * LONGEST_TEXT}… ({LONGEST_TEXT + 5} characters)"


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.datetimes()
    | st.builds(object)
    | st.builds(Mute)
    | st.builds(AJob),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.none(), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(metadata=st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_any_metadata_gives_one_line_of_valid_json_without_args(metadata: dict[str, Any]) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    line = json_line("oban.test", 20, metadata)

    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line, parse_constant=refuse)["event"] == "oban.test"
    assert "hunter2" not in line
