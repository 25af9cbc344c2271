"""Traces that go on from who enqueues to what runs, and metrics of both, by OpenTelemetry.

    oban.integrations.opentelemetry.instrument()

The context of a trace travels in the meta of its jobs, as W3C's `traceparent` and `tracestate`;
names are those of the semantic conventions for messaging. It needs the extra `otel`, which is the
API alone: by which SDK anything is exported is the application's choice.
"""

from oban.errors import ObanError

try:
    from oban.integrations.opentelemetry.instrumentation import instrument, uninstrument
except ImportError as error:
    if error.name and error.name.partition(".")[0] == "oban":
        raise
    raise ObanError(
        f'traces need the package {error.name}; install it with: pip install "oban[otel]"'
    ) from error

__all__ = ["instrument", "uninstrument"]
