"""How a run ends: what a worker may return, and what is saved of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from oban import recorded
from oban.fields import Seconds, clean_object, seconds
from oban.limits import clean_limits
from oban.states import JobState

RECORD_LIMIT: Final = 64_000_000


@dataclass(frozen=True, slots=True)
class Record:
    """Complete the job and keep `value` with it; `job.recorded()` reads it back.

    Raises TypeError for a value that cannot be kept, ValueError when its encoded form is larger
    than `limit` bytes.
    """

    value: Any
    limit: int = RECORD_LIMIT
    encoded: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        encoded = recorded.encode(self.value)
        size = recorded.encoded_size(encoded)
        if size > self.limit:
            raise ValueError(f"the recorded value takes {size} bytes, the limit is {self.limit}")
        object.__setattr__(self, "encoded", encoded)

    if not TYPE_CHECKING:  # or any name would pass for an attribute

        def __getattr__(self, name: str) -> Any:
            """Read the value of a restored record when somebody asks for it."""
            if name != "value":
                raise AttributeError(name)
            object.__setattr__(self, "value", recorded.decode(self.encoded))
            return self.value

    @classmethod
    def restore(cls, encoded: str) -> Self:
        """The record that was encoded elsewhere. Its value is not read until it is asked for."""
        record = object.__new__(cls)
        object.__setattr__(record, "limit", RECORD_LIMIT)
        object.__setattr__(record, "encoded", encoded)
        return record


@dataclass(frozen=True, slots=True)
class Snooze:
    """Run the job again after `seconds`; this attempt does not count. `meta` is merged in."""

    seconds: Seconds
    meta: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        delay = seconds("seconds", self.seconds)
        if delay < 0:
            raise ValueError(f"seconds is {delay}; a snooze lies in the future, give 0 or more")
        if self.meta is not None:
            clean_object("meta", self.meta)


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the job as cancelled; `reason` is kept among its errors."""

    reason: Any = None


@dataclass(frozen=True, slots=True)
class Discard:
    """End the job as discarded, whatever attempts are left; `reason` is kept among its errors."""

    reason: Any = None


class RateLimited(Exception):
    """Raised by a job: whoever it works for asks to be left alone for `retry_after` seconds.

    The job runs again after that, and this attempt does not count, as with `Snooze`. And until then
    no other job starts under the same limits: the `limit` named here, else those that the job
    shares, else those of its queue or its partition.
    """

    def __init__(self, retry_after: Seconds, limit: str | None = None) -> None:
        delay = seconds("retry_after", retry_after)
        if delay < 0:
            raise ValueError(f"retry_after is {delay}; give 0 or more seconds")
        if limit is not None:
            clean_limits(limit)
        under = "" if limit is None else f" under {limit!r}"
        super().__init__(f"nothing more{under} for {delay:g} seconds")
        self.retry_after = delay
        self.limit = limit


Outcome = Record | Snooze | Cancel | Discard | RateLimited


@dataclass(frozen=True, slots=True)
class Ack:
    """How one attempt ended: what the engine saves if the attempt is still ours.

    `delay` says in how many seconds the job is due again. An uncounted attempt is taken off the
    job's count, as for a snooze or a job given back.
    """

    id: int
    attempt: int
    state: JobState
    error: str | None = None
    delay: float | None = None
    meta: Mapping[str, Any] | None = None
    counted: bool = True
    #: Back-pressure: for how many `seconds` nothing more shall start under the limits of the job,
    #: or the one named as `limit`.
    slows: Mapping[str, Any] | None = None

    @property
    def key(self) -> "AttemptKey":
        return (self.id, self.attempt)


#: Together with the producer's uuid this names one attempt of one job.
AttemptKey = tuple[int, int]
