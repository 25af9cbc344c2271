"""The connections a process opens for itself, made from what the pool was made of."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool

from oban.errors import DatabaseUnavailable
from oban.pool import BACKEND_PID

Kwargs = Mapping[str, Any]

#: A pool may renew what it connects with, such as a token: then it is asked at each opening.
Conninfo = str | Callable[[], str] | Callable[[], Awaitable[str]]
LateKwargs = Kwargs | Callable[[], Kwargs] | Callable[[], Awaitable[Kwargs]] | None

#: A dead peer is noticed by the kernel, not only by waiting for an answer.
NETWORK_DEFAULTS: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
#: What belongs to the pool's owner and not to a connection of ours, which is found by its label.
NOT_OURS: Final = frozenset(
    {"application_name", "autocommit", "context", "cursor_factory", "row_factory"}
)


@dataclass(slots=True)
class Route:
    """What is known of the way to the server, once somebody has gone it.

    Behind a pooler the next statement may be carried out by another session.
    """

    direct: bool | None = None

    def learn(self, own: tuple[int] | None, told: int) -> None:
        self.direct = own == (told,)


@dataclass(frozen=True, slots=True)
class Connector:
    """How to open one more connection to the database that the pool serves."""

    conninfo: Conninfo = field(repr=False)
    kwargs: LateKwargs = field(default=None, repr=False)
    route: Route = field(default_factory=Route, repr=False)

    @classmethod
    def of(cls, pool: AsyncConnectionPool[Any]) -> "Connector":
        return cls(pool.conninfo, pool.kwargs)

    async def open(self, label: str) -> psycopg.AsyncConnection[Any]:
        """Raises DatabaseUnavailable when the server cannot be reached or refuses."""
        conninfo = complete(await awaited(self.conninfo), label)
        kwargs = ours(await awaited(self.kwargs))
        try:
            connection = await psycopg.AsyncConnection.connect(conninfo, autocommit=True, **kwargs)
        except psycopg.Error as error:
            raise refused(error) from error
        try:
            await self.look(connection)
        except BaseException as error:
            await connection.close()
            if isinstance(error, psycopg.Error):
                raise refused(error) from error
            raise
        if not self.route.direct:
            connection.prepare_threshold = None  # what is repeated would be prepared in time
        return connection

    def open_sync(self, label: str) -> psycopg.Connection[Any]:
        """The same for sync code."""
        conninfo = complete(called(self.conninfo), label)
        kwargs = ours(called(self.kwargs))
        try:
            connection = psycopg.Connection.connect(conninfo, autocommit=True, **kwargs)
        except psycopg.Error as error:
            raise refused(error) from error
        try:
            self.look_sync(connection)
        except psycopg.Error as error:
            connection.close()
            raise refused(error) from error
        if not self.route.direct:
            connection.prepare_threshold = None
        return connection

    async def look(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Find out, once, whether a pooler is in between."""
        if self.route.direct is None:
            async with connection.cursor(row_factory=tuple_row) as cursor:
                await cursor.execute(BACKEND_PID, prepare=False)
                self.route.learn(await cursor.fetchone(), connection.info.backend_pid)

    def look_sync(self, connection: psycopg.Connection[Any]) -> None:
        if self.route.direct is None:
            with connection.cursor(row_factory=tuple_row) as cursor:
                cursor.execute(BACKEND_PID, prepare=False)
                self.route.learn(cursor.fetchone(), connection.info.backend_pid)


def complete(conninfo: str, label: str) -> str:
    given = conninfo_to_dict(conninfo)
    defaults = {key: value for key, value in NETWORK_DEFAULTS.items() if key not in given}
    return make_conninfo(conninfo, **defaults, application_name=label)


def ours(kwargs: Kwargs | None) -> dict[str, Any]:
    return {key: value for key, value in (kwargs or {}).items() if key not in NOT_OURS}


def refused(error: psycopg.Error) -> DatabaseUnavailable:
    return DatabaseUnavailable(f"cannot connect to the database: {str(error).strip()}")


async def awaited(value: Any) -> Any:
    made = value() if callable(value) else value
    return await made if isawaitable(made) else made


def called(value: Any) -> Any:
    """A value that sync code can use; one that must be awaited it cannot."""
    made = value() if callable(value) else value
    if isawaitable(made):
        if asyncio.iscoroutine(made):
            made.close()
        raise DatabaseUnavailable(
            "the pool makes its connection info with an async function, which a `_sync` call "
            "cannot await; pass `conn=`, or give the pool a plain function"
        )
    return made
