"""What tells others how jobs fare, each module by itself and for who asks for it.

`oban.integrations.prometheus`, `opentelemetry`, `sentry` and `autoscaling`. The first three need an
extra, `prometheus`, `otel` and `sentry`, and say so where it is missing.
"""
