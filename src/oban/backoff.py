"""How long to wait before something that failed is tried again. Pure functions over numbers."""

import random
from collections.abc import Callable
from typing import Final

from oban.fields import Seconds, seconds
from oban.job import Job

MINIMUM: Final = 15
STEPS: Final = 20
JITTER: Final = 0.1


def default_backoff(attempt: int, max_attempts: int) -> float:
    """Seconds to wait after `attempt` failed: 15 + 2**n, and up to 10 % more.

    `n` is the attempt, scaled to 20 steps when there are more, so that the last wait is about
    twelve days however many attempts are allowed.
    """
    step = attempt if max_attempts <= STEPS else round(attempt / max_attempts * STEPS)
    return with_jitter(MINIMUM + 2.0 ** min(step, STEPS))


def with_jitter(delay: float) -> float:
    """Add up to 10 %, so that jobs which failed together do not all return together."""
    return delay + delay * JITTER * random.random()  # noqa: S311  # spreads load, hides nothing


Choice = Callable[[Job, BaseException], float]


def linear(step: Seconds, *, most: Seconds = 86_400) -> Choice:
    """For `retry_on`: `step` after the first attempt, twice that after the second, up to `most`."""
    first, bound = seconds("step", step), seconds("most", most)
    return lambda job, _: with_jitter(min(bound, first * max(job.attempt, 1)))


def exponential(first: Seconds = MINIMUM, *, factor: float = 2.0, most: Seconds = 86_400) -> Choice:
    """For `retry_on`: `first` after the first attempt, and `factor` times as long after each."""
    start, bound = seconds("first", first), seconds("most", most)

    def choose(job: Job, _: BaseException) -> float:
        try:
            return with_jitter(min(bound, start * factor ** (max(job.attempt, 1) - 1)))
        except OverflowError:
            return with_jitter(bound)

    return choose


#: The longest wait for a database that is away: its return is noticed soon.
LONGEST_OUTAGE_WAIT: Final = 2.0


def outage_backoff(failures: int) -> float:
    """Seconds to wait after so many failed tries in a row to reach the database."""
    delay = 0.05 * 2.0 ** min(failures - 1, 16)
    return min(LONGEST_OUTAGE_WAIT, with_jitter(delay))
