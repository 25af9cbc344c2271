"""What crosses the pipe between a node and a child process: JSON text, both ways."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from oban.errors import RaisedInProcess
from oban.fields import seconds
from oban.job import JOB_FIELDS, Job
from oban.outcome import Cancel, Discard, Outcome, RateLimited, Record, Snooze
from oban.states import JobState


@dataclass(frozen=True, slots=True)
class Crossing:
    """What a child is given to run."""

    job: Job
    #: Where its worker was found, if that is imported.
    module: str | None = None
    #: What handlers of the node send along to those of the child.
    carried: Mapping[str, Any] = field(default_factory=dict)


def write_job(given: Crossing) -> str:
    fields = {name: getattr(given.job, name) for name in JOB_FIELDS}
    told = {"job": fields, "module": given.module, "carried": given.carried}
    return json.dumps(told, default=written)


def module_of(worker: str) -> str | None:
    """The module that a worker of this process lies in, the program itself left out."""
    parts = worker.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts) - 1, 0, -1))
    return next((name for name in names if name in sys.modules), None)


def written(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def read_job(text: str) -> Crossing:
    told = json.loads(text)
    fields: dict[str, Any] = told["job"]
    for name, value in fields.items():
        if name.endswith("_at") and value is not None:
            fields[name] = datetime.fromisoformat(value)
    fields["state"] = JobState(fields["state"])
    return Crossing(Job.restore(**fields), told["module"], told["carried"])


def write_outcome(value: object) -> str:
    """What a worker returned, as far as it means something."""
    match value:
        case Record():
            told: dict[str, Any] = {"record": value.encoded}
        case Snooze():
            told = {"snooze": seconds("seconds", value.seconds), "meta": value.meta}
        case RateLimited():
            told = {"rate_limited": value.retry_after, "limit": value.limit}
        case Cancel():
            told = {"cancel": readable(value.reason)}
        case Discard():
            told = {"discard": readable(value.reason)}
        case _:
            told = {}
    return json.dumps(told)


def readable(reason: object) -> str | None:
    return reason if reason is None or isinstance(reason, str) else repr(reason)


def write_error(told: Mapping[str, object], rule: str | None = None) -> str:
    return json.dumps({"error": told, "rule": rule})


def read_outcome(text: str) -> Outcome | None:
    """What the worker returned. Raises RaisedInProcess for what it raised."""
    match json.loads(text):
        case {"error": told, "rule": rule}:
            raise RaisedInProcess(told, rule)
        case {"record": encoded}:
            return Record.restore(encoded)
        case {"snooze": delay, "meta": meta}:
            return Snooze(delay, meta)
        case {"rate_limited": delay, "limit": limit}:
            return RateLimited(delay, limit)
        case {"cancel": reason}:
            return Cancel(reason)
        case {"discard": reason}:
            return Discard(reason)
        case _:
            return None
