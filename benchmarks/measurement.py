"""What a measurement comes to, and why one may come to nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


class Invalid(Exception):
    """There is no figure; the text says why."""


class DidNotFinish(Invalid):
    """The system was still at it when the time was over."""


class Void(Invalid):
    """A job was lost, or ran more than once: how fast that was does not count."""


class AdapterFailed(Invalid):
    """The adapter's process ended with an error."""


@dataclass(frozen=True)
class Measurement:
    """One figure in the scenario's unit, and what else was seen on the way."""

    figure: float | None
    extras: Mapping[str, float] = field(default_factory=dict)
    #: Why there is no figure.
    note: str = ""


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: Sequence[float]) -> dict[str, float]:
    """The usual quantiles, by their usual names."""
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {
        **{name: quantile(values, share) for name, share in shares.items()},
        "most": max(values),
    }
