"""How finely a stretch of time is looked at, and what jobs can be grouped by."""

import re
from typing import Any

import pytest

from oban.errors import InvalidOption
from oban.metrics import KEPT, USUAL_POINTS, Scale, path_of
from oban.reading import clean_filter


@pytest.mark.parametrize(
    ("since", "grain", "step"),
    [
        (60, "minute", 60),
        (3_600, "minute", 60),
        (6 * 3_600, "minute", 120),
        (6 * 3_600 + 1, "hour", 3_600),
        (7 * 86_400, "hour", 3_600),
        (14 * 86_400, "hour", 7_200),
        (30 * 86_400, "day", 86_400),
        (400 * 86_400, "day", 172_800),
    ],
)
def test_the_step_is_as_fine_as_makes_few_points(since: float, grain: str, step: int) -> None:
    scale = Scale.of(since)
    assert (scale.grain, scale.step) == (grain, step)
    assert since / step <= USUAL_POINTS


@pytest.mark.parametrize(
    ("since", "step", "said"),
    [
        (59, None, "since is 59; it is 60 to 34560000 seconds"),
        (KEPT["day"] + 1, None, "since is"),
        (True, None, "since is True"),
        ("1h", None, "since is '1h'"),
        (3_600, 30, "step is 30; it is 60 to"),
        (3_600, 90, "give a multiple of 60"),
        (86_400, 60, "step is 60; it is 3600 to"),
        (400 * 86_400, 86_400.5, "by the day, give a multiple of 86400"),
    ],
)
def test_what_cannot_be_asked_is_said(since: Any, step: Any, said: str) -> None:
    with pytest.raises(InvalidOption) as error:
        Scale.of(since, step)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"state": "complete"}, "state is 'complete'; it is one of available, "),
        ({"worker": Scale}, "Scale'>; it is a name, as `module.Name`"),
        ({"queue": "a\0"}, "queue holds a NUL"),
        ({"limit": 0}, "limit is 0"),
    ],
)
def test_what_no_job_can_have_is_no_filter(given: dict[str, Any], said: str) -> None:
    filters = {"queue": None, "worker": None, "node": None, "state": None, "limit": 5, **given}
    with pytest.raises(ValueError, match=re.escape(said)):
        clean_filter(**filters)


def test_a_step_may_be_asked_for() -> None:
    assert Scale.of(7_200, 600) == Scale(7_200, "minute", 600)


def test_jobs_are_grouped_by_a_column_or_what_is_in_args_and_meta() -> None:
    assert path_of("queue") == ["queue"]
    assert path_of("meta.region.name") == ["meta", "region", "name"]
    for wrong in ("", "args", "args.", "args..a", "priority", "errors.x", None, 3):
        with pytest.raises(InvalidOption, match=r"as args\.tenant_id"):
            path_of(wrong)
