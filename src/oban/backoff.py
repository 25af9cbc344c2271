"""How long to wait before something that failed is tried again. Pure functions over numbers."""

import random
from typing import Final

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


#: The longest wait for a database that is away: its return is noticed soon.
LONGEST_OUTAGE_WAIT: Final = 2.0


def outage_backoff(failures: int) -> float:
    """Seconds to wait after so many failed tries in a row to reach the database."""
    delay = 0.05 * 2.0 ** min(failures - 1, 16)
    return min(LONGEST_OUTAGE_WAIT, with_jitter(delay))
