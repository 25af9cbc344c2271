"""Which jobs a test speaks of: filters by field, checked before anything is looked up."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypedDict

from oban.engines.reads import JobFilter
from oban.job import CLEANERS, Job
from oban.running.inline import through_json
from oban.states import JobState
from oban.worker import ClassJobs, FunctionJobs


class Filters(TypedDict, total=False):
    """Every filter that is given must fit.

    `worker` is a class, a function or the name they are stored under. `args` and `meta` fit a job
    whose own contain them, at any depth; `tags` one that has them all, and maybe more. Without
    `state` a job must be available or scheduled.
    """

    worker: object
    queue: str
    args: Mapping[str, Any]
    meta: Mapping[str, Any]
    tags: Iterable[str]
    priority: int
    state: str


#: The states of a job that is enqueued and has not begun.
ENQUEUED: Final = (JobState.AVAILABLE, JobState.SCHEDULED)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Filters whose values were checked, and how jobs compare with them."""

    values: Mapping[str, Any]

    @classmethod
    def of(cls, filters: Mapping[str, Any]) -> Self:
        """Raises TypeError for a filter that does not exist, InvalidJob for an impossible value."""
        for name in filters:
            if name not in CHECKS:
                raise TypeError(f"there is no filter {name!r}; {advice(name)}")
        return cls({name: CHECKS[name](name, value) for name, value in filters.items()})

    @property
    def states(self) -> tuple[JobState, ...]:
        return (self.values["state"],) if "state" in self.values else ENQUEUED

    def query(self, *, limit: int, before_id: int | None) -> JobFilter:
        fields = {name: value for name, value in self.values.items() if name != "state"}
        return JobFilter(states=self.states, limit=limit, before_id=before_id, **fields)

    def misses(self, job: Job) -> list[str]:
        """The fields of `job` that are not what is wanted."""
        missed = [
            name
            for name, value in self.values.items()
            if name != "state" and not fits(getattr(job, name), value)
        ]
        return missed if job.state in self.states else ["state", *missed]

    def __str__(self) -> str:
        shown = {**self.values, "state": " or ".join(self.states)}
        return "\n".join(f"    {name:<9} {said(value)}" for name, value in shown.items())


def worker_name(name: str, value: object) -> str:
    """The name that jobs of a worker are stored under, however the worker is given."""
    if isinstance(value, str):
        return str(CLEANERS["worker"](name, value))
    jobs = vars(value).get("__oban_jobs__") if isinstance(value, type) else value
    jobs = getattr(getattr(jobs, "new", None), "__self__", jobs)  # a function carries its methods
    if isinstance(jobs, ClassJobs | FunctionJobs):
        return jobs.definition.name
    raise TypeError(
        f"{name} is {value!r:.80}; it is a class with @worker, a function with @job, or the name "
        "their jobs are stored under"
    )


def as_stored(name: str, value: object) -> dict[str, Any]:
    """What a job has of these args or meta: tuples are lists there, and keys are text."""
    return through_json(name, CLEANERS[name](name, value))


#: How the value of each filter is checked, which is also what filters there are.
CHECKS: Final[Mapping[str, Callable[[str, object], Any]]] = {
    "worker": worker_name,
    "queue": CLEANERS["queue"],
    "args": as_stored,
    "meta": as_stored,
    "tags": CLEANERS["tags"],
    "priority": CLEANERS["priority"],
    "state": CLEANERS["state"],
}


def advice(name: str) -> str:
    nearest = difflib.get_close_matches(name, CHECKS, n=1)
    guess = f"did you mean {nearest[0]!r}? The" if nearest else "the"
    return f"{guess} filters are {', '.join(CHECKS)}"


def fits(actual: object, wanted: object) -> bool:
    """Whether a value of a job contains what is wanted, as PostgreSQL's `@>` has it."""
    if isinstance(wanted, Mapping):
        return isinstance(actual, Mapping) and all(
            key in actual and fits(actual[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        return isinstance(actual, list) and all(
            any(fits(each, value) for each in actual) for value in wanted
        )
    return actual == wanted and isinstance(actual, bool) == isinstance(wanted, bool)


def said(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


LONGEST: Final = 200
