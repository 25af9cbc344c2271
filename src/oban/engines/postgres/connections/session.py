"""A session: one connection of our own that is opened again after it broke."""

import asyncio
import contextlib
from typing import Any, Final, TypeVar, cast

import psycopg

from oban.engines.operation import Operation
from oban.engines.postgres.connections.cancelling import hang_up
from oban.engines.postgres.connections.own import Connector
from oban.engines.postgres.connections.psycopg import AsyncPsycopg
from oban.engines.postgres.drive import drive, with_retries
from oban.engines.postgres.faults import is_lost, translate
from oban.engines.postgres.statements import PREPARED, PostgresOperation
from oban.errors import DatabaseUnavailable, ObanError, OutcomeUnknown

T = TypeVar("T")

#: Seconds an answer may take before the connection counts as lost.
PATIENCE: Final = 20.0
#: What a session that claims asks for, once.
SETTINGS: Final = (
    b"select set_config('plan_cache_mode', 'force_generic_plan', false), "
    b"set_config('default_transaction_isolation', 'read committed', false)"
)
#: Seconds after which the plan of a prepared statement is made anew, for the table as it then is.
PLAN_AGE: Final = 1.0
#: Seconds in which a statement notices that its connection was ended here.
HANG_UP_PATIENCE: Final = 1.0


class PostgresSession:
    """See `engines.base.Session`. Not for use by two tasks at once, but for `close`."""

    def __init__(self, connector: Connector, label: str, patience: float = PATIENCE) -> None:
        self.connector = connector
        self.label = label
        self.patience = patience
        self.connection: psycopg.AsyncConnection[Any] | None = None
        #: When plans were last made anew on this connection.
        self.planned_at: float | None = None

    async def execute(self, operation: Operation[T]) -> T:
        wanted = cast("PostgresOperation[T]", operation)
        return await with_retries(lambda: self.once(wanted))

    async def once(self, operation: PostgresOperation[T]) -> T:
        connection = await self.opened()
        done = False
        try:
            result = await self.answer(operation, connection)
            done = True
        except TimeoutError as error:
            raise OutcomeUnknown(
                f"no answer from the database within {self.patience:g} s; "
                "the statement may have been carried out or not"
            ) from error
        except (psycopg.Error, UnicodeEncodeError) as error:
            broken = connection.closed
            translated = translate(
                error,
                broken=broken,
                sent=True,
                unique_keys=operation.unique_keys,
                is_timed=operation.is_timed,
            )
            done = not broken and not isinstance(translated, DatabaseUnavailable)
            raise translated from error
        except ObanError:
            done = True
            raise
        finally:
            # Cancelled, timed out or broken: whatever it may still bring is not for us any more.
            if not done:
                await self.close()
        return result

    async def answer(
        self, operation: PostgresOperation[T], connection: psycopg.AsyncConnection[Any]
    ) -> T:
        """Carry out `operation`, and wait neither beyond our patience nor once cancelled.

        Cancelled itself, psycopg asks the server to stop and waits up to ten seconds for what it
        says; a server that does not answer would keep a stop that long from ending.
        """
        work = asyncio.create_task(self.carry_out(operation, connection))
        work.add_done_callback(look_at)
        try:
            await asyncio.wait([work], timeout=self.patience)
            if not work.done():
                raise TimeoutError
        finally:
            if not work.done():
                hang_up(connection)
                await asyncio.wait([work], timeout=HANG_UP_PATIENCE)
        return work.result()

    async def carry_out(
        self, operation: PostgresOperation[T], connection: psycopg.AsyncConnection[Any]
    ) -> T:
        prepares = self.connector.route.direct
        if prepares and operation.name in PREPARED:
            await self.renew_plans(connection)
        return await drive(operation, AsyncPsycopg(connection, prepares=prepares))

    async def opened(self) -> psycopg.AsyncConnection[Any]:
        if self.connection is not None and is_lost(self.connection):
            await self.close()
        if self.connection is None:
            self.connection = await self.connector.open(self.label)
            self.planned_at = None
        return self.connection

    async def renew_plans(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Drop kept plans that are old. One made while there were ten jobs would read a million.

        And keep them at all: left to itself the server plans a claim each time anew, since it
        takes the limit that it does not know for a tenth of the table. Planning takes as long as
        carrying it out. A claim within limits counts what is committed when it has its locks, which
        another level of isolation would not let it see.
        """
        now = asyncio.get_running_loop().time()
        if self.planned_at is None:
            await connection.execute(SETTINGS, prepare=False)
        elif now - self.planned_at > PLAN_AGE:
            await connection.execute(b"discard plans", prepare=False)
        else:
            return
        self.planned_at = now

    async def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                await connection.close()


def look_at(work: "asyncio.Task[Any]") -> None:
    """Take note of an error that nobody waits for any more."""
    if not work.cancelled():
        work.exception()
