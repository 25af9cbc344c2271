"""Numbers for Prometheus: what this process does, and what the database says of all.

    oban.integrations.prometheus.attach()                          # counts, in the default registry
    app.mount("/metrics", oban.integrations.prometheus.app(oban))  # both, for a scrape

It needs the extra `prometheus`.
"""

from oban.errors import ObanError

try:
    from oban.integrations.prometheus.collecting import DatabaseCollector
    from oban.integrations.prometheus.counting import attach, detach
    from oban.integrations.prometheus.exposing import app
except ImportError as error:
    if error.name and error.name.partition(".")[0] == "oban":
        raise
    raise ObanError(
        f"numbers for Prometheus need the package {error.name}; install it with: "
        'pip install "oban[prometheus]"'
    ) from error

__all__ = ["DatabaseCollector", "app", "attach", "detach"]
