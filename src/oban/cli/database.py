"""The database that a command works on."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace

from oban.cli.options import require_dsn
from oban.configuration import EMBEDDED, Configuration
from oban.oban import Oban
from oban.pool import open_pool


@dataclass(frozen=True, slots=True)
class Database:
    dsn: str = field(repr=False)
    #: Lets go of the embedded server; does nothing elsewhere, or when called again.
    release: Callable[[], None]


@contextmanager
def reachable(loaded: Configuration) -> Iterator[Database]:
    """The database to connect to. The embedded server runs as long as this is entered."""
    dsn = require_dsn(loaded)
    if dsn != EMBEDDED:
        yield Database(dsn, release=lambda: None)
        return
    from oban import embedded

    with embedded.start() as server:
        yield Database(server.dsn, release=server.stop)


@asynccontextmanager
async def client(loaded: Configuration) -> AsyncIterator[Oban]:
    """An Oban that runs nothing. Raises SchemaError where there are no tables, or too old ones."""
    with reachable(loaded) as database:
        pool = await open_pool(database.dsn, replace(loaded.pool, min_size=1))
        try:
            options = loaded.options
            async with Oban(pool=pool, name=options.name, prefix=options.prefix) as oban:
                yield oban
        finally:
            await pool.close()
