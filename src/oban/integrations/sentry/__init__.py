"""Errors of jobs, told to Sentry.

    oban = Oban(…, hooks=[oban.integrations.sentry.SentryHooks()])

It needs the extra `sentry`, and an application that has called `sentry_sdk.init`.
"""

from oban.errors import ObanError

try:
    from oban.integrations.sentry.hooks import SentryHooks
except ImportError as error:
    if error.name and error.name.partition(".")[0] == "oban":
        raise
    raise ObanError(
        f'Sentry needs the package {error.name}; install it with: pip install "oban[sentry]"'
    ) from error

__all__ = ["SentryHooks"]
