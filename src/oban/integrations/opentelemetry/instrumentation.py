"""Tracing and measuring, turned on and off."""

from typing import Final

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from oban import telemetry
from oban.integrations.opentelemetry.measuring import Measuring
from oban.integrations.opentelemetry.tracing import Tracing

TRACING: Final = "oban.opentelemetry.tracing"
MEASURING: Final = "oban.opentelemetry.measuring"


def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    linked: bool = False,
) -> None:
    """Trace and measure what this process enqueues and runs, by all its Obans.

    A run is part of the trace that enqueued its job; with `linked` it begins one of its own, which
    refers to that, as is better where thousands of jobs come from one call, or days lie between.
    The providers are OpenTelemetry's global ones unless they are given. Doing this again replaces
    what was said before.
    """
    uninstrument()
    tracing = Tracing(tracer_provider, linked=linked)
    measuring = Measuring(meter_provider)
    # Tracing first: what is measured within a span may be told with it as an example.
    telemetry.attach(TRACING, tracing.handlers, tracing)
    telemetry.attach(MEASURING, measuring.handlers, measuring)


def uninstrument() -> bool:
    """Do so no longer; false if it was not done. Spans that are open are never told."""
    return any([telemetry.detach(MEASURING), telemetry.detach(TRACING)])
