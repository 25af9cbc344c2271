"""The whole suite over a worse road: without notifications, or through a pooler.

    OBAN_TEST_ROAD=unheard make test    no notification arrives: nodes listen to another database
    OBAN_TEST_ROAD=pooled make test     each database is behind PgBouncer in transaction mode

A test about what such a road does not have says so by a marker and is skipped there.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.faults.bouncer import MISSING, PROGRAM, bouncer

from oban.engines.postgres import PostgresEngine

ROAD: Final = os.environ.get("OBAN_TEST_ROAD", "")
KNOWN: Final = ("", "unheard", "pooled")
if ROAD not in KNOWN:
    raise ValueError(f"OBAN_TEST_ROAD={ROAD}: neither unheard nor pooled")

UNHEARD: Final = ROAD == "unheard"
MARKERS: Final = (
    "hears(why): notifications must arrive; skipped where they do not",
    "own_session(why): the server's sessions are asked for or changed; skipped behind a pooler",
)
#: The roads that a marked test cannot go.
CLOSED: Final = {"hears": ("unheard", "pooled"), "own_session": ("pooled",)}


def closed(item: pytest.Item) -> str | None:
    for name, roads in CLOSED.items():
        for marker in item.iter_markers(name):
            if ROAD in roads:
                return f"not over the road {ROAD}: {marker.args[0]}"
    return None


def to(server_dsn: str) -> AbstractContextManager[str]:
    return pooled(server_dsn) if ROAD == "pooled" else nullcontext(server_dsn)


#: The servers behind the poolers, by the pooler's port.
BEHIND: Final[dict[Any, str]] = {}


@contextmanager
def pooled(server_dsn: str) -> Iterator[str]:
    if PROGRAM is None:
        raise RuntimeError(MISSING)
    with bouncer(server_dsn) as dsn:
        BEHIND[conninfo_to_dict(dsn)["port"]] = server_dsn
        yield dsn


def direct(dsn: str) -> str:
    """The same database without the pooler: for a test's own LISTEN, and what it prepares."""
    given = conninfo_to_dict(dsn)
    server = BEHIND.get(given.get("port"))
    return make_conninfo(server, dbname=given["dbname"]) if server else dsn


@contextmanager
def unheard(server_dsn: str) -> Iterator[None]:
    """Engines that name no listen_dsn listen where nothing is said, those of programs too."""
    with pytest.MonkeyPatch.context() as patch:
        built = PostgresEngine.__init__

        def build(self: PostgresEngine, pool: object, *args: Any, **options: Any) -> None:
            options["listen_dsn"] = options.get("listen_dsn") or server_dsn
            built(self, pool, *args, **options)

        patch.setattr(PostgresEngine, "__init__", build)
        patch.setenv("OBAN_LISTEN_DSN", server_dsn)
        yield
