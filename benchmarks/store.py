"""Where the jobs of one measurement are: a new database, or a new Redis."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from benchmarks import environments
from benchmarks.catalog import System
from benchmarks.server import Server

COUNTERS = """
select xact_commit + xact_rollback, pg_current_wal_insert_lsn()
from pg_stat_database where datname = current_database()
"""
OTHERS = """
select count(*) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
"""
#: How long sessions may take to end.
SESSIONS_SECONDS = 5.0


@dataclass(frozen=True)
class Counters:
    """What a server has done so far: transactions, and the position in its log."""

    commits: int
    position: str


@dataclass(frozen=True)
class Cost:
    commits: int
    wal_bytes: int
    #: Positions in the log, for `Server.wal_records`.
    begin: str
    end: str


class Store:
    """A Redis: it is there, and nobody counts."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    def settle(self) -> None:
        """Do now what would otherwise happen at some time during the measurement."""

    def count(self, table: str) -> int | None:
        """How many rows the table has, None where there are no tables."""
        return None

    def counters(self, *, alone: bool = True) -> Counters | None:
        """What has been done so far, once who did it has gone: sessions tell when they end."""
        return None

    def cost(self, before: Counters | None, *, alone: bool = True) -> Cost | None:
        """What has been done since then."""
        return None


class Database(Store):
    def settle(self) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("vacuum analyze")
            connection.execute("checkpoint")

    def count(self, table: str) -> int | None:
        query = sql.SQL("select count(*) from {}").format(sql.Identifier(*table.split(".")))
        with psycopg.connect(self.dsn) as connection:
            row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    def counters(self, *, alone: bool = True) -> Counters | None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            deadline = time.monotonic() + (SESSIONS_SECONDS if alone else 0)
            while connection.execute(OTHERS).fetchone() != (0,) and time.monotonic() < deadline:
                time.sleep(0.05)
            row = connection.execute(COUNTERS).fetchone()
        assert row is not None
        return Counters(*row)

    def cost(self, before: Counters | None, *, alone: bool = True) -> Cost | None:
        after = self.counters(alone=alone)
        assert before is not None
        assert after is not None
        wal_bytes = position(after.position) - position(before.position)
        commits = after.commits - before.commits
        return Cost(commits, wal_bytes, before.position, after.position)


def position(lsn: str) -> int:
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


@contextmanager
def fresh_store(system: System, server: Server) -> Iterator[Store]:
    if system.store == "redis":
        with environments.redis_server() as url:
            yield Store(url)
    else:
        with server.database() as dsn:
            yield Database(dsn)
