"""What a job has recorded, for people: decoded, and apart from the rest of its meta."""

from typing import Any, Final

from oban.job import Job

#: What `Record` keeps in meta, encoded: shown decoded, and not a second time.
RECORDED: Final = ("recorded", "return")


def has_recorded(job: Job) -> bool:
    meta: object = job.meta
    return isinstance(meta, dict) and bool(meta.get("recorded"))


def recorded(job: Job) -> Any:
    """What the worker recorded; a row of somebody else may hold anything there."""
    try:
        return job.recorded()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        return f"(cannot be read: {error})"


def without_record(job: Job) -> Any:
    """The rest of its meta."""
    meta: object = job.meta
    if not isinstance(meta, dict):
        return meta
    return {key: value for key, value in meta.items() if key not in RECORDED}
