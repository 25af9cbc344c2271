"""The dashboard: an ASGI application, to be mounted in another one or served by `oban web`.

    app.mount("/oban", oban.web.app(oban, auth=who))
    async with oban.web.serving(oban.web.app(oban)) as address: ...

It needs the extra `web`: pip install "oban[web]".
"""

from oban.errors import ObanError

try:
    from oban.web.access import BasicAuth, Role, User
    from oban.web.application import app
    from oban.web.server import serving
except ImportError as error:
    if error.name and error.name.partition(".")[0] == "oban":
        raise
    raise ObanError(
        f'the dashboard needs the package {error.name}; install it with: pip install "oban[web]"'
    ) from error

__all__ = ["BasicAuth", "Role", "User", "app", "serving"]
