"""The engine: verbs from their files, carried out over a pool, a session or a lent connection."""

from collections.abc import AsyncIterator
from typing import Any, Final, TypeVar, cast

import psycopg

from oban.dsn import check_dsn
from oban.engines.base import Traits
from oban.engines.blocking import refuse_inside_loop
from oban.engines.operation import Operation
from oban.engines.postgres import schema
from oban.engines.postgres.browsing import BrowsingVerbs
from oban.engines.postgres.commands import CommandVerbs
from oban.engines.postgres.connections import borrow, borrow_sync
from oban.engines.postgres.connections.own import Connector
from oban.engines.postgres.connections.psycopg import AsyncPsycopg, SyncPsycopg
from oban.engines.postgres.connections.session import PATIENCE, PostgresSession
from oban.engines.postgres.cron import CronVerbs
from oban.engines.postgres.drive import (
    drive,
    drive_sync,
    gave_way_or_ended,
    with_retries,
    with_retries_sync,
)
from oban.engines.postgres.explain import ExplainVerbs
from oban.engines.postgres.faults import translate
from oban.engines.postgres.history import HistoryVerbs
from oban.engines.postgres.insert_rows import MAX_INSERT_BYTES, MAX_INSERT_JOBS
from oban.engines.postgres.limits import LimitVerbs
from oban.engines.postgres.metrics import MetricVerbs
from oban.engines.postgres.nodes import NodeVerbs
from oban.engines.postgres.pools import Pools
from oban.engines.postgres.reads import ReadVerbs
from oban.engines.postgres.rescue import RescueVerbs
from oban.engines.postgres.runs import RunVerbs
from oban.engines.postgres.signals import Ears
from oban.engines.postgres.stacks import StackVerbs
from oban.engines.postgres.statements import PostgresOperation
from oban.engines.signals import Signal

T = TypeVar("T")

TRAITS: Final = Traits("PostgreSQL", MAX_INSERT_JOBS, MAX_INSERT_BYTES)


class PostgresEngine(
    CronVerbs,
    RunVerbs,
    LimitVerbs,
    NodeVerbs,
    CommandVerbs,
    RescueVerbs,
    HistoryVerbs,
    MetricVerbs,
    ReadVerbs,
    BrowsingVerbs,
    StackVerbs,
    ExplainVerbs,
):
    """See `oban.engines.base.Engine`; each verb's promise stands beside it, by topic."""

    traits = TRAITS

    def __init__(
        self,
        pool: object,
        prefix: str = "public",
        *,
        due_within: float = 1.0,
        listen_dsn: str | None = None,
    ) -> None:
        super().__init__(prefix, due_within)
        self.pools = Pools(pool)
        if listen_dsn:
            check_dsn("listen_dsn", listen_dsn)
        named = Connector(listen_dsn) if listen_dsn else None
        self.ears = Ears(self.pools.connector, named, self.channels)

    async def open(self) -> None:
        # Not over the pool: where the server cannot be reached, it would say so after its timeout
        # and without the server's own words.
        probe = self.session("oban start")
        try:
            facts = await probe.execute(schema.server_facts(self.sql))
        finally:
            await probe.close()
        schema.require_usable(facts, self.sql.prefix)
        await self.pools.open()

    async def close(self) -> None:
        await self.pools.close()

    @property
    def direct(self) -> bool | None:
        """Whether the server is reached without a pooler, None before the first connection."""
        return self.pools.connector.route.direct

    async def execute(self, operation: Operation[T], conn: object | None = None) -> T:
        wanted = cast("PostgresOperation[T]", operation)
        if conn is not None:
            return await drive(wanted, borrow(conn, prepares=self.direct))
        return await with_retries(lambda: self.once(wanted), gave_way_or_ended)

    async def once(self, operation: PostgresOperation[T]) -> T:
        async with self.pools.connection() as connection:
            try:
                await self.pools.connector.look(connection)
                return await drive(operation, AsyncPsycopg(connection, prepares=self.direct))
            except (psycopg.Error, UnicodeEncodeError) as error:
                raise await self.failed(error, connection, operation) from error

    async def failed(
        self,
        error: Exception,
        connection: psycopg.AsyncConnection[Any],
        operation: PostgresOperation[T],
    ) -> Exception:
        broken = connection.closed
        if getattr(error, "sqlstate", None) == READ_ONLY:
            await connection.close()  # the server became a standby: the pool must connect anew
        return translate(
            error,
            broken=broken,
            sent=not operation.repeatable,
            unique_keys=operation.unique_keys,
            is_timed=operation.is_timed,
        )

    def execute_sync(self, operation: Operation[T], conn: object | None = None) -> T:
        refuse_inside_loop()
        wanted = cast("PostgresOperation[T]", operation)
        if conn is not None:
            return drive_sync(wanted, borrow_sync(conn, prepares=self.direct))
        return with_retries_sync(lambda: self.once_sync(wanted), gave_way_or_ended)

    def once_sync(self, operation: PostgresOperation[T]) -> T:
        connection: psycopg.Connection[Any] | None = None
        try:
            with self.pools.sync_connection() as connection:
                return drive_sync(operation, SyncPsycopg(connection, prepares=self.direct))
        except (psycopg.Error, UnicodeEncodeError) as error:
            broken = connection is None or connection.pgconn.status != psycopg.pq.ConnStatus.OK
            raise translate(
                error,
                broken=broken,
                sent=not operation.repeatable,
                unique_keys=operation.unique_keys,
                is_timed=operation.is_timed,
            ) from error

    def session(self, label: str, patience: float | None = None) -> PostgresSession:
        return PostgresSession(self.pools.connector, label, patience or PATIENCE)

    def signals(self) -> AsyncIterator[Signal]:
        return self.ears.listen()


READ_ONLY: Final = "25006"
