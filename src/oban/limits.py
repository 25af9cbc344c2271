"""What may run on all nodes together: of a queue, a partition of it, or all that name a limit."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from oban.errors import InvalidJob, InvalidOption

#: The key of `meta` under which a job names the limits that it shares with others.
LIMITS: Final = "limits"
#: How many of those a job may name.
MOST_NAMES: Final = 10
NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")
NAMES: Final = "1 to 100 letters, digits and _ . -"

#: What begins the lane of a job says by what it was placed, in so many digits.
MARK_LENGTH: Final = 8

#: The fields of a job that its partition may be made of.
FIELDS: Final = ("worker", "args", "meta")
ACCEPTED: Final = (
    '{"by": …} with "worker", {"args": "tenant_id"} or {"meta": "region"}, or a list of those; a '
    'dotted path such as "account.id" leads to what lies deeper, and a list names several'
)


@dataclass(frozen=True, slots=True)
class Partition:
    """What divides the jobs of a queue: each path is a field of the job, and keys within it."""

    paths: tuple[tuple[str, ...], ...]

    @classmethod
    def parse(cls, path: str, given: object) -> Self:
        """From what stands in the options of a queue. Raises InvalidOption."""
        if not isinstance(given, Mapping) or set(given) != {"by"}:
            raise InvalidOption(f"{path} is {given!r:.80}; it is {ACCEPTED}")
        by = given["by"]
        each = by if isinstance(by, list | tuple) else [by]
        paths = tuple(found for one in each for found in paths_of(path, one))
        if not paths or len(set(paths)) < len(paths):
            raise InvalidOption(
                f"{path}.by is {by!r:.80}, which names {'a thing twice' if paths else 'nothing'}; "
                f"it is {ACCEPTED}"
            )
        return cls(paths)

    @property
    def text(self) -> str:
        return json.dumps(self.paths)

    @property
    def mark(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:MARK_LENGTH]


def paths_of(path: str, given: object) -> Iterator[tuple[str, ...]]:
    if given == "worker":
        yield ("worker",)
        return
    if isinstance(given, Mapping) and given and set(given) <= {"args", "meta"}:
        for field, keys in given.items():
            for key in keys if isinstance(keys, list | tuple) else [keys]:
                if not isinstance(key, str) or not all(key.split(".")) or "\0" in key:
                    raise InvalidOption(f"{path}.by names {key!r:.80} in {field}; it is {ACCEPTED}")
                yield (field, *key.split("."))
        return
    raise InvalidOption(f"{path}.by holds {given!r:.80}; it is {ACCEPTED}")


@dataclass(frozen=True, slots=True)
class Limits:
    """What of a queue, a partition or a name may run. None is no limit."""

    #: Jobs that run at once.
    global_limit: int | None = None
    #: Weight of jobs that start within `period` seconds, wherever these begin.
    allowed: int | None = None
    period: float | None = None

    def __bool__(self) -> bool:
        return self.global_limit is not None or self.allowed is not None


@dataclass(frozen=True, slots=True)
class QueueLimits(Limits):
    """They hold for each partition, where there are any, else for the queue."""

    partition: Partition | None = None


@dataclass(frozen=True, slots=True)
class LimitInfo:
    """A limit that queues share, and how much of it is used just now."""

    name: str
    global_limit: int | None
    rate_limit: Mapping[str, float] | None
    #: Jobs that run.
    running: int
    #: Weight of the jobs that started within the period.
    started: int
    #: Seconds for which nothing starts, since a job said so; zero while that is not so.
    resting: float
    #: Whether it was scaled, and so is not what the nodes say.
    scaled: bool


def clean_limits(given: object) -> list[str]:
    """The names of limits that a job shares, in order. Raises InvalidJob."""
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise InvalidJob(f"limits is {given!r:.80}; it is a list of names, such as ['openai']")
    for name in names:
        if not NAME.fullmatch(name):
            raise InvalidJob(f"limits names {name!r:.80}; a name is {NAMES}")
    if len(set(names)) > MOST_NAMES:
        raise InvalidJob(f"limits names {len(set(names))}; a job may name {MOST_NAMES}")
    return sorted(set(names))


def clean_limit_name(given: Any) -> str:
    """The name of one. Raises InvalidOption."""
    if not isinstance(given, str) or not NAME.fullmatch(given):
        raise InvalidOption(f"a limit is named {given!r:.80}; a name is {NAMES}")
    return given
