"""Unique jobs: which jobs are the same, which of them count, for how long, and what a newer one
changes in the one that is there.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import cache
from typing import Any, Final, Literal, Protocol, Self, TypedDict, get_args

from oban.errors import InvalidJob
from oban.fields import MAX_SECONDS, Seconds, encode
from oban.states import FINAL, JobState

Field = Literal["worker", "queue", "args", "meta"]
Group = Literal["all", "incomplete", "scheduled", "successful"]
Timestamp = Literal["inserted_at", "scheduled_at"]
Replaceable = Literal["args", "schedule", "priority", "tags", "meta", "max_attempts", "queue"]

FIELDS: Final = get_args(Field)
TIMESTAMPS: Final = get_args(Timestamp)
REPLACEABLE: Final = get_args(Replaceable)

GROUPS: Final[Mapping[str, frozenset[JobState]]] = {
    "all": frozenset(JobState),
    "incomplete": frozenset(JobState) - FINAL,
    "scheduled": frozenset({JobState.SCHEDULED}),
    "successful": frozenset(JobState) - {JobState.CANCELLED, JobState.DISCARDED},
}
#: The states that a job begins in. A set without them never sees two jobs of a kind at once.
FIRST: Final = frozenset({JobState.AVAILABLE, JobState.SCHEDULED, JobState.SUSPENDED})

#: What a row says of its states, by the number that all Obans know each by.
BITS: Final[Mapping[JobState, int]] = {
    JobState.SCHEDULED: 0,
    JobState.AVAILABLE: 1,
    JobState.EXECUTING: 2,
    JobState.RETRYABLE: 3,
    JobState.COMPLETED: 4,
    JobState.CANCELLED: 5,
    JobState.DISCARDED: 6,
    JobState.SUSPENDED: 7,
}
#: What we write into `meta` of a unique job.
MARKS: Final = ("uniq", "uniq_key", "uniq_bmp")
#: What in `meta` never makes two jobs differ: those, how long a job may take, and the trace that it
#: is part of, which another enqueue never shares.
NOT_COMPARED: Final = (*MARKS, "deadline_at", "timeout", "traceparent", "tracestate")


class Comparable(Protocol):
    """A job, of which this module is a part."""

    @property
    def worker(self) -> str: ...
    @property
    def queue(self) -> str: ...
    @property
    def args(self) -> dict[str, Any]: ...
    @property
    def meta(self) -> dict[str, Any]: ...


class UniqueOptions(TypedDict, total=False):
    period: Seconds | Literal["infinity"] | None
    fields: Iterable[Field]
    keys: Iterable[str]
    states: Iterable[str] | Group
    group: Group
    timestamp: Timestamp
    replace: Mapping[str, Iterable[Replaceable]] | Iterable[Replaceable]


OPTIONS: Final = tuple(UniqueOptions.__annotations__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """A job is not inserted while another has the same `fields`, is in one of `states`, and is not
    older than `period` seconds, by its `timestamp`.
    """

    fields: tuple[str, ...] = ("worker", "queue", "args")
    #: Paths into args, and into meta where that is compared; empty compares all of it.
    keys: tuple[tuple[str, ...], ...] = ()
    #: Seconds, None without end.
    period: float | None = None
    states: frozenset[JobState] = GROUPS["successful"]
    timestamp: str = "inserted_at"
    #: What the newer job changes in the older one, by the state that one is in.
    replace: Mapping[JobState, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def parse(cls, given: object) -> Self | None:
        """Read the option `unique`. Raises InvalidJob for what it cannot be or could never do."""
        if given is None or given is False:
            return None
        if given is True:
            return cls.by_default()
        if isinstance(given, cls):
            return given
        if not isinstance(given, Mapping):
            raise InvalidJob(f"unique is {given!r:.80}; it is True or a dict of {names(OPTIONS)}")
        for name in given:
            if name not in OPTIONS:
                nearest = get_close_matches(str(name), OPTIONS, n=1)
                guess = f" (the nearest is {nearest[0]})" if nearest else ""
                raise InvalidJob(f"unique has no {name!r}{guess}; it has {names(OPTIONS)}")
        compared = clean_list("fields", given.get("fields", cls.by_default().fields), FIELDS)
        keys = clean_keys(given.get("keys", ()), compared)
        states = clean_states(given)
        return cls(
            fields=tuple(each for each in FIELDS if each in compared),
            keys=keys,
            period=clean_period(given.get("period")),
            states=states,
            timestamp=clean_choice("timestamp", given.get("timestamp", "inserted_at"), TIMESTAMPS),
            replace=clean_replace(given.get("replace", {}), states),
        )

    @classmethod
    @cache
    def by_default(cls) -> Self:
        return cls()

    def key(self, job: Comparable) -> str:
        """32 hexadecimal digits that are equal for jobs that are the same."""
        compared: dict[str, Any] = {}
        for name in self.fields:
            value: Any = getattr(job, name)
            if name == "meta":
                value = {key: each for key, each in value.items() if key not in NOT_COMPARED}
            if name in ("args", "meta") and self.keys:
                value = picked(value, self.keys)
            compared[name] = value
        try:
            if not all(map(has_text_keys, compared.values())):
                compared = json.loads(encode(compared))  # numbers would be sorted in another order
            text = encode_sorted(compared)
        except (RecursionError, TypeError, ValueError) as error:
            raise InvalidJob(f"what makes the job unique cannot be written: {error}") from None
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def counts(self, state: JobState, scheduled_at: datetime | None, now: datetime) -> bool:
        """Whether a job that is inserted now is one that others may be the like of."""
        due = scheduled_at or now
        waits = JobState.SCHEDULED if due > now else JobState.AVAILABLE
        begins = state if state is JobState.SUSPENDED else waits
        since = due if self.timestamp == "scheduled_at" else now
        in_time = self.period is None or (now - since).total_seconds() < self.period
        return begins in self.states and in_time

    @property
    def bits(self) -> int:
        """The states as a number, one bit for each."""
        return sum(1 << BITS[state] for state in self.states)

    @property
    def marks(self) -> dict[str, Any]:
        """What a row's `meta` says of it, beside the key."""
        return {"uniq": True, "uniq_bmp": sorted(BITS[state] for state in self.states)}


encode_sorted: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def has_text_keys(value: object) -> bool:
    """Whether every key in it is text already, as all are in JSON."""
    if isinstance(value, dict):
        return all(type(key) is str for key in value) and all(map(has_text_keys, value.values()))
    if isinstance(value, list | tuple):
        return all(map(has_text_keys, value))
    return True


ABSENT: Final = object()


def picked(value: Mapping[str, Any], paths: Iterable[tuple[str, ...]]) -> dict[str, Any]:
    """What stands at the paths; a path that leads nowhere differs from one that leads to null."""
    found = {}
    for path in paths:
        name = ".".join(path)
        at: Any = value.get(name, ABSENT)  # a key may itself hold a dot
        if at is ABSENT:
            at = value
            for step in path:
                at = at.get(step, ABSENT) if isinstance(at, Mapping) else ABSENT
        if at is not ABSENT:
            found[name] = at
    return found


def clean_period(given: object) -> float | None:
    if given is None or given in ("infinity", math.inf):
        return None
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, int | float)
        or not 0 < seconds <= MAX_SECONDS
    ):
        raise InvalidJob(
            f"unique.period is {given!r:.80}; it is a number of seconds above 0, a timedelta, or "
            "infinity, which is the default"
        )
    return float(seconds)


def clean_states(given: Mapping[str, Any]) -> frozenset[JobState]:
    if "states" in given and "group" in given:
        raise InvalidJob("unique.states and unique.group are both given; give one of them")
    asked = given.get("states", given.get("group", "successful"))
    if isinstance(asked, str):
        return GROUPS[clean_choice("group", asked, tuple(GROUPS))]
    listed = clean_list("states", asked, tuple(JobState))
    states = frozenset(JobState(each) for each in listed)
    if not states & FIRST:
        raise InvalidJob(
            f"unique.states is {names(sorted(states))}, and a job begins in none of them: two of "
            f"a kind would both be inserted, always. Name at least one of {names(sorted(FIRST))}"
        )
    return states


def clean_keys(given: object, compared: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidJob(f"unique.keys is {given!r:.80}; it is a list of keys of the arguments")
    keys = list(given)
    for key in keys:
        if not isinstance(key, str) or not all(key.split(".")):
            raise InvalidJob(
                f"unique.keys holds {key!r:.80}; each is a key of the arguments, and a dot leads "
                "further down, as in 'user.id'"
            )
    if keys and not {"args", "meta"} & set(compared):
        raise InvalidJob(
            f"unique.keys is {names(keys)}, and unique.fields is {names(compared)}; keys pick from "
            "args or meta, name one of these among the fields"
        )
    return tuple(tuple(key.split(".")) for key in sorted(set(keys)))


def clean_replace(given: object, states: frozenset[JobState]) -> Mapping[JobState, tuple[str, ...]]:
    """By state; a bare list is for every state in which a job still waits."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidJob(
            f"unique.replace is {given!r:.80}; it is a dict of states, each with a list of "
            f"{names(REPLACEABLE)}"
        )
    if not isinstance(given, Mapping):
        fields = clean_list("replace", given, REPLACEABLE)
        return dict.fromkeys(sorted(states - FINAL - {JobState.EXECUTING}), fields)
    replace = {}
    for state, fields in given.items():
        named = JobState(clean_choice("replace", state, tuple(JobState)))
        if named not in states:
            raise InvalidJob(
                f"unique.replace names {named}, and a job in that state is no conflict: "
                f"unique.states is {names(sorted(states))}"
            )
        replace[named] = clean_list(f"replace.{named}", fields, REPLACEABLE)
    return replace


def clean_list(name: str, given: object, allowed: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidJob(f"unique.{name} is {given!r:.80}; it is a list of {names(allowed)}")
    found = tuple(clean_choice(name, each, allowed) for each in given)
    if not found:
        raise InvalidJob(f"unique.{name} is empty; name at least one of {names(allowed)}")
    return found


def clean_choice(name: str, given: object, allowed: tuple[str, ...]) -> str:
    if not isinstance(given, str) or given not in allowed:
        nearest = get_close_matches(str(given), allowed, n=1)
        guess = f" (the nearest is {nearest[0]})" if nearest else ""
        raise InvalidJob(f"unique.{name} is {given!r:.80}{guess}; there are {names(allowed)}")
    return str(given)


def names(of: Iterable[str]) -> str:
    return ", ".join(of)
