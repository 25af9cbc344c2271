"""The connections a process opens for itself, made from what the pool was made of."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool

from oban.errors import DatabaseUnavailable

Conninfo = str | Callable[[], str] | Callable[[], Awaitable[str]]

#: A dead peer is noticed by the kernel, not only by waiting for an answer.
NETWORK_DEFAULTS: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
#: What belongs to the pool's owner and not to a connection of ours.
NOT_OURS: Final = frozenset({"row_factory", "cursor_factory", "autocommit", "context"})


@dataclass(frozen=True, slots=True)
class Connector:
    """How to open one more connection to the database that the pool serves."""

    conninfo: Conninfo = field(repr=False)
    kwargs: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, pool: AsyncConnectionPool[Any]) -> "Connector":
        kwargs = pool.kwargs
        if callable(kwargs):
            # The pool may renew what it connects with, such as a token; each opening asks again.
            return cls(pool.conninfo, {LATE: kwargs})
        return cls(pool.conninfo, kwargs or {})

    async def open(self, label: str) -> psycopg.AsyncConnection[Any]:
        """Raises DatabaseUnavailable when the server cannot be reached or refuses."""
        conninfo = self.conninfo
        if callable(conninfo):
            made = conninfo()
            conninfo = await made if isawaitable(made) else made
        kwargs = dict(self.kwargs)
        if late := kwargs.pop(LATE, None):
            made_kwargs = late()
            kwargs = dict(await made_kwargs if isawaitable(made_kwargs) else made_kwargs)
        try:
            return await psycopg.AsyncConnection.connect(
                self.complete(conninfo, label), autocommit=True, **self.mine(kwargs)
            )
        except psycopg.Error as error:
            raise self.refused(error) from error

    def open_sync(self, label: str) -> psycopg.Connection[Any]:
        conninfo, kwargs = self.conninfo, dict(self.kwargs)
        if callable(conninfo):
            conninfo = plain(conninfo())
        if late := kwargs.pop(LATE, None):
            kwargs = dict(plain(late()))
        try:
            return psycopg.Connection.connect(
                self.complete(conninfo, label), autocommit=True, **self.mine(kwargs)
            )
        except psycopg.Error as error:
            raise self.refused(error) from error

    def complete(self, conninfo: str, label: str) -> str:
        given = conninfo_to_dict(conninfo)
        defaults = {key: value for key, value in NETWORK_DEFAULTS.items() if key not in given}
        return make_conninfo(conninfo, **defaults, application_name=label)

    def mine(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in kwargs.items() if key not in NOT_OURS}

    def refused(self, error: psycopg.Error) -> DatabaseUnavailable:
        return DatabaseUnavailable(f"cannot connect to the database: {str(error).strip()}")


LATE: Final = "\0kwargs"


def plain(value: Any) -> Any:
    """A value that sync code can use; an awaitable one it cannot."""
    if isawaitable(value):
        if asyncio.iscoroutine(value):
            value.close()
        raise DatabaseUnavailable(
            "the pool makes its connection info with an async function, which a `_sync` call "
            "cannot await; pass `conn=`, or give the pool a plain function"
        )
    return value
