"""The dashboard: an ASGI application, to be mounted in another one or served by `oban web`.

    app.mount("/oban", oban.web.app(oban, auth=who))

It needs the extra `web`: pip install "oban[web]".
"""

from oban.errors import ObanError

try:
    from oban.web.access import BasicAuth, Role, User
    from oban.web.application import app
except ImportError as error:
    if error.name and error.name.partition(".")[0] == "oban":
        raise
    raise ObanError(
        f'the dashboard needs the package {error.name}; install it with: pip install "oban[web]"'
    ) from error

__all__ = ["BasicAuth", "Role", "User", "app"]
