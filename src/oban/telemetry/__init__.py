"""What happens inside, told as named events to whoever attached a handler.

Nothing is built and nothing is called for an event that nobody listens to.
"""

from oban.telemetry import logger
from oban.telemetry.events import (
    Handler,
    Metadata,
    Span,
    attach,
    describe_error,
    detach,
    execute,
    listening,
    span,
)

__all__ = [
    "Handler",
    "Metadata",
    "Span",
    "attach",
    "describe_error",
    "detach",
    "execute",
    "listening",
    "logger",
    "span",
]
