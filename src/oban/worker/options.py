"""The options a job is built with: which there are, which of two wins, what fields they become."""

import copy
import difflib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, TypedDict

from oban.fields import Seconds, clean_integer
from oban.job import Job, due_at
from oban.limits import LIMITS, clean_limits
from oban.unique import Unique, UniqueOptions
from oban.worker.execution import Place, mark
from oban.worker.policy import OPTIONS as POLICY
from oban.worker.policy import Delays, Some


class JobOptions(TypedDict, total=False):
    queue: str
    priority: int
    max_attempts: int
    tags: Iterable[str]
    meta: Mapping[str, Any]
    scheduled_at: datetime | None
    schedule_in: Seconds | None
    unique: bool | UniqueOptions | Unique | None
    weight: int
    limits: str | Sequence[str]
    timeout: Seconds | None
    deadline: Seconds | datetime | None


class WorkerOptions(JobOptions, total=False):
    """The options of a decorator: those of its jobs, and what is its worker's alone to say."""

    aliases: Iterable[str] | None
    encrypted: bool
    executor: Place | None
    hooks: Iterable[object] | None
    retry_on: Some | Delays | None
    discard_on: Some | None
    cancel_on: Some | None
    snooze_on: Delays | None


OPTION_NAMES: Final = tuple(JobOptions.__annotations__)
#: Named in no row: what they say is code.
WORKER_ONLY: Final = ("aliases", "encrypted", "executor", "hooks", *POLICY)

clean_weight: Final = clean_integer(1, 1_000_000_000)

#: Two ways to say when; whoever gives one of them replaces both.
WHEN: Final = frozenset({"scheduled_at", "schedule_in"})

#: Options that are no fields of a job, and are noted when it is built.
TIMES: Final = frozenset({"timeout", "deadline"})
#: Their None asks for nothing.
ABSENT: Final = TIMES | {"limits", "weight"}


def check_options(
    owner: str, options: Mapping[str, Any], also: Iterable[str] = (), hint: str = ""
) -> dict[str, Any]:
    """Return `options`, all of which are known.

    Raises TypeError for one that does not exist, naming the nearest that does, among them the
    names in `also`, and giving the `hint`.
    """
    known = {}
    for name, value in options.items():
        if name in OPTION_NAMES:
            if value is not None or name not in ABSENT:
                known[name] = value
        elif name in WORKER_ONLY:
            raise TypeError(
                f"{owner} has no option {name!r} here: it is about code, and so its worker's to "
                "say; give it to @worker or @job"
            )
        else:
            raise TypeError(f"{owner} has no option {name!r}; {advice(name, sorted(also))}{hint}")
    return known


def advice(name: str, also: Iterable[str]) -> str:
    taken = [*also, *OPTION_NAMES]
    nearest = difflib.get_close_matches(name, taken, n=1)
    guess = f"did you mean {nearest[0]!r}? It" if nearest else "it"
    return f"{guess} takes {', '.join(taken)}"


def merge(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Both together; what is `given` replaces the default, tags and meta as a whole."""
    merged = {**defaults, **given}
    if not WHEN.isdisjoint(given):
        for name in WHEN - given.keys():
            merged.pop(name, None)
    return merged


def job_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a job built now: `schedule_in` counts from here.

    Its weight and the limits that it names are part of meta.
    """
    fields = dict(options)
    if "limits" in fields:
        names = clean_limits(fields.pop("limits"))
        fields["meta"] = {**(fields.get("meta") or {}), LIMITS: names}
    if "weight" in fields:
        weight = clean_weight("weight", fields.pop("weight"))
        fields["meta"] = {**(fields.get("meta") or {}), "weight": weight}
    fields.pop("timeout", None)
    fields.pop("deadline", None)
    if "schedule_in" in fields:
        fields["scheduled_at"] = due_at(fields.get("scheduled_at"), fields.pop("schedule_in"))
    return fields


def settle(worker: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Options that many jobs are built from: proved on one job, and nobody else's to change.

    Raises InvalidJob for a value that a job cannot have.
    """
    job = Job(worker=worker, **job_fields(options))
    own = {name: getattr(job, name) for name in ("tags", "meta", "unique") if name in options}
    mark(job, options.get("timeout"), options.get("deadline"))
    return MappingProxyType({**options, **copy.deepcopy(own)})
