"""Jobs as they are read from a table in which anything may stand."""

from typing import Any, Final

from oban import Job
from oban.job import JOB_FIELDS

NOTHING: Final[dict[str, Any]] = dict.fromkeys(JOB_FIELDS)


def restored(**columns: Any) -> Job:
    """A job of a row that has null in all other columns."""
    return Job.restore(**NOTHING | columns)
