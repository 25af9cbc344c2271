"""The session that changes a schema: alone, patient, and in small steps that can be repeated.

Nothing here waits long while others wait behind it. A statement that needs a table to itself gives
up after `lock_timeout`, lets the others pass, and is tried again a few times.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg.errors import DeadlockDetected, InsufficientPrivilege, LockNotAvailable
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from oban.engines.postgres import schema
from oban.engines.postgres.connections.psycopg import AsyncPsycopg
from oban.engines.postgres.drive import drive
from oban.engines.postgres.faults import UNAVAILABLE
from oban.engines.postgres.statements import Rows, Statements, quoted
from oban.errors import Contended, DatabaseUnavailable, ObanError, SchemaError

#: Seconds to wait for a lock while others queue behind us, and how often that is tried.
LOCK_TIMEOUT: Final = 5.0
LOCK_ATTEMPTS: Final = 5
#: What builds an index concurrently blocks no writer while it waits for transactions to end, so it
#: waits this many times longer, but once.
CONCURRENT_PATIENCE: Final = 60
#: Seconds to wait for another session that changes the same schema.
TURN_PATIENCE: Final = 600.0

INDEX: Final = re.compile(r"create index concurrently if not exists (\w+)")


@dataclass(slots=True)
class Migrator:
    """Works on a connection of its own, which commits each statement by itself.

    Behind a pooler nothing is left on its session, which others use next.
    """

    connection: psycopg.AsyncConnection[Any]
    prefix: str
    lock_timeout: float = LOCK_TIMEOUT
    turn_patience: float = TURN_PATIENCE
    #: Whether one statement meets the session of the one before.
    direct: bool = True
    #: What a message says that was going on.
    doing: str = "looking"
    sql: Statements = field(init=False)

    def __post_init__(self) -> None:
        self.sql = Statements(self.prefix)

    async def facts(self) -> schema.ServerFacts:
        return await drive(schema.server_facts(self.sql), AsyncPsycopg(self.connection))

    async def objects(self) -> schema.SchemaObjects:
        return await drive(schema.schema_objects(self.sql), AsyncPsycopg(self.connection))

    @asynccontextmanager
    async def alone(self, keeper: psycopg.AsyncConnection[Any]) -> AsyncIterator[None]:
        """Hold off every other session that would change this schema. Raises Contended.

        The lock is that of a transaction of `keeper`, which is one session's even behind a pooler.
        It keeps no snapshot, for which an index built concurrently would wait without end.
        """
        await self.take_turn(keeper)
        try:
            yield
        finally:
            # What was done is done, also if the turn was lost meanwhile. Closing the connection
            # would end it too, but not at once.
            with contextlib.suppress(psycopg.Error):
                await keeper.execute(b"rollback")

    async def take_turn(self, keeper: psycopg.AsyncConnection[Any]) -> None:
        clock = asyncio.get_running_loop().time
        deadline, pause = clock() + self.turn_patience, 0.05
        statement = self.sql("take_migration_lock", lock_name=self.lock_name)
        while True:
            await keeper.execute(b"begin isolation level read committed")
            if (await AsyncPsycopg(keeper).fetch(statement))[0][0]:
                # This also closes what the question was asked through, and so its snapshot.
                await keeper.execute(b"set local idle_in_transaction_session_timeout = 0")
                return
            await keeper.execute(b"rollback")
            if clock() > deadline:
                raise await self.waited_for_others()
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def waited_for_others(self) -> Contended:
        sessions = await self.fetch("migration_lock_holders", lock_name=self.lock_name)
        return Contended(
            f"schema {self.prefix!r} has been changed by somebody else for "
            f"{self.turn_patience:g} s; {described(sessions)}; wait for that to end"
        )

    @property
    def lock_name(self) -> str:
        return f"oban migrate {self.prefix}"

    async def together(self, statements: Sequence[str]) -> None:
        """Execute statements in one transaction."""

        async def work() -> None:
            async with self.connection.transaction():
                await self.limit(self.lock_timeout, "set local")
                for statement in statements:
                    await self.execute(statement)

        await self.patiently(work, self.lock_timeout, LOCK_ATTEMPTS)

    async def one_by_one(self, statements: Sequence[str]) -> None:
        """Execute statements each on its own, as those must that build an index concurrently."""
        for statement in statements:
            if match := INDEX.match(statement):
                await self.build_index(match[1], statement)
            else:
                await self.together([statement])

    async def build_index(self, name: str, statement: str) -> None:
        """Build an index, anew where an earlier try was interrupted and left an invalid one."""
        index = f"{quoted(self.prefix)}.{quoted(name)}"
        timeout = self.lock_timeout * CONCURRENT_PATIENCE

        async def work() -> None:
            if self.direct:  # behind a pooler the limit would be set for somebody else
                await self.limit(timeout, "set")
            if await self.fetch("invalid_index", index_name=index):
                await self.execute(f"drop index concurrently {index}")
            await self.execute(statement)

        await self.patiently(work, timeout, 1)

    async def patiently(
        self, work: Callable[[], Awaitable[None]], timeout: float, attempts: int
    ) -> None:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((LockNotAvailable, DeadlockDetected)),
            stop=stop_after_attempt(attempts),
            wait=wait_fixed(self.lock_timeout),
            reraise=True,
        )
        try:
            await retrying(work)
        except (LockNotAvailable, DeadlockDetected) as error:
            sessions = await self.fetch("lock_holders", prefix=self.prefix)
            tries = f", tried {attempts} times" if attempts > 1 else ""
            raise Contended(
                f"{self.doing} in schema {self.prefix!r} could not get a lock within {timeout:g} s"
                f"{tries}; {described(sessions)}; run it again when that has ended, and it goes on "
                "where it stopped"
            ) from error

    async def execute(self, statement: str) -> None:
        await self.connection.execute(statement.encode())

    async def fetch(self, name: str, **parameters: Any) -> Rows:
        return await AsyncPsycopg(self.connection).fetch(self.sql(name, **parameters))

    async def limit(self, lock_timeout: float, how: str) -> None:
        """Wait so many seconds for locks, and then work for as long as it takes."""
        await self.execute(f"{how} lock_timeout = {round(lock_timeout * 1000)}")
        await self.execute(f"{how} statement_timeout = 0")

    def failed(self, error: psycopg.Error) -> ObanError:
        """The error of ours that says what became of the schema."""
        parts = (error.diag.message_primary, error.diag.message_detail)
        text = "; ".join(filter(None, parts)) or str(error).strip() or type(error).__name__
        what = f"{self.doing} in schema {self.prefix!r}"
        if self.connection.closed or error.sqlstate in UNAVAILABLE:
            return DatabaseUnavailable(
                f"{what} lost the database: {text}; run it again, and it goes on where it stopped"
            )
        advice = ""
        if isinstance(error, InsufficientPrivilege):
            advice = "; connect as a role that owns the tables and may create in the schema"
        return SchemaError(f"{what} was refused: {text}{advice}")


def described(sessions: Rows) -> str:
    """Who may hold it; never what they execute, which may hold secrets."""
    if not sessions:
        return "whoever holds it cannot be seen"
    return "it may be held by " + ", ".join(
        f"pid {pid} ({application}, {user or 'no user'}, {state or 'no state'}{since(seconds)})"
        for pid, application, user, state, seconds in sessions
    )


def since(seconds: float | None) -> str:
    return "" if seconds is None else f", in a transaction for {seconds:.0f} s"
