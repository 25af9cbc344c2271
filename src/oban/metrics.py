"""What is told of jobs that have run: counts, and how long they took and waited."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from oban.errors import InvalidOption
from oban.fields import clean_text

#: What kept metrics are divided by.
Dimension = Literal["state", "queue", "worker", "node"]
DIMENSIONS: Final = ("state", "queue", "worker", "node")
#: In the place of a name: the rest of many.
REST: Final = "*"

#: For how many seconds what is kept of a minute, an hour and a day is kept.
KEPT: Final[Mapping[str, int]] = {"minute": 6 * 3_600, "hour": 14 * 86_400, "day": 400 * 86_400}
LENGTHS: Final[Mapping[str, int]] = {"minute": 60, "hour": 3_600, "day": 86_400}
#: The steps that are chosen among, in seconds.
STEPS: Final = (
    *(60 * n for n in (1, 2, 5, 10, 15, 30)),
    *(3_600 * n for n in (1, 2, 3, 6, 12)),
    *(86_400 * n for n in (1, 2, 7)),
)
#: Points of a series where nobody asks for a step, and where somebody does.
USUAL_POINTS: Final = 200
MOST_POINTS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Quantiles:
    """How long attempts took, or waited, in seconds."""

    p50: float
    p95: float
    p99: float
    mean: float
    count: int


@dataclass(frozen=True, slots=True)
class Point:
    """What ended within one step that begins `at`."""

    at: datetime
    #: Jobs that have ended for good, by the state they ended in.
    counts: Mapping[str, int] = field(default_factory=dict)
    #: Of all attempts, also of those after which the job is to run again.
    exec: Quantiles | None = None
    wait: Quantiles | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """One queue, worker, node or state over time; `*` is the rest of many."""

    group: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Stat:
    """Jobs of the table that have something in common; None where they lack it."""

    group: str | None
    count: int
    counts: Mapping[str, int]
    exec: Quantiles | None
    wait: Quantiles | None


@dataclass(frozen=True, slots=True)
class Scale:
    """How finely a stretch of time is looked at: what is kept for long enough, and the step."""

    since: float
    grain: str
    step: int

    @classmethod
    def of(cls, since: object, step: object = None) -> "Scale":
        """The finest grain that reaches back so far, in steps of so many seconds.

        Raises InvalidOption for a stretch or a step that nothing is kept for.
        """
        reach = clean_seconds("since", since, least=60, most=KEPT["day"])
        grain = next(each for each, kept in KEPT.items() if reach <= kept)
        length = LENGTHS[grain]
        if step is None:
            chosen = next(
                (s for s in STEPS if s >= length and reach / s <= USUAL_POINTS), STEPS[-1]
            )
            return cls(reach, grain, chosen)
        wanted = clean_seconds("step", step, least=length, most=KEPT["day"])
        if wanted % length:
            raise InvalidOption(
                f"step is {wanted:.15g}; over {reach:.15g} seconds metrics are kept by the "
                f"{grain}, give a multiple of {length}"
            )
        if reach / wanted > MOST_POINTS:
            raise InvalidOption(
                f"step is {wanted:.15g}, which makes {reach / wanted:,.0f} points of {reach:.15g} "
                f"seconds; {MOST_POINTS:,} at most, give a larger step"
            )
        return cls(reach, grain, int(wanted))


def clean_seconds(name: str, value: object, *, least: float, most: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= float(value) <= most:  # type: ignore[arg-type]
        raise InvalidOption(f"{name} is {value!r:.80}; it is {least:.15g} to {most:.15g} seconds")
    return float(value)  # type: ignore[arg-type]


def clean_dimension(by: object) -> str:
    if by not in DIMENSIONS:
        raise InvalidOption(
            f"by is {by!r:.80}; metrics are kept by {', '.join(DIMENSIONS)}; "
            "`stats` groups the jobs that are in the table by their arguments or meta, too"
        )
    return str(by)


def path_of(by: object) -> list[str]:
    """What jobs are grouped by, as a column and keys within. Raises InvalidOption."""
    path: list[Any] = by.split(".") if isinstance(by, str) else []
    is_column = len(path) == 1 and path[0] in DIMENSIONS
    is_inside = len(path) > 1 and path[0] in ("args", "meta") and all(path)
    if not (is_column or is_inside):
        raise InvalidOption(
            f"by is {by!r:.80}; jobs are grouped by {', '.join(DIMENSIONS)}, or by something in "
            "their arguments or meta, as args.tenant_id"
        )
    clean_text("by", str(by))
    return path
