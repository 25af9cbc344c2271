"""A proxy between a client and PostgreSQL that breaks what a test tells it to break."""

import asyncio
import socket
from collections.abc import Awaitable
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlencode

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.faults.cut import Cut, Predicate
from tests.faults.link import PATIENCE, Conditions, Link, Streams

__all__ = ["Cut", "Proxy"]

LOOPBACK = "127.0.0.1"


class Proxy:
    """Carry connections from a port of its own to the server a DSN names, faults included.

        async with Proxy(dsn) as proxy:
            connection = await AsyncConnection.connect(proxy.dsn())
            cut = proxy.cut_before_reply(lambda sql: "insert into" in sql)

    It lives on the event loop, so a blocking client belongs on a thread. Leaving ends every
    connection and raises what went wrong inside: a predicate's error, a message not understood.
    TLS is declined, also towards the server.
    """

    def __init__(self, dsn: str) -> None:
        self._target = dsn
        self._host, self._port = _address(dsn)
        self._conditions = Conditions()
        self._conditions.flowing.set()
        self._links: set[Link] = set()
        self._failures: list[Exception] = []
        self._reserved: socket.socket | None = None
        self._listener: socket.socket | None = None

    @property
    def port(self) -> int:
        assert self._reserved, "the proxy is not open"
        port: int = self._reserved.getsockname()[1]
        return port

    @property
    def connection_count(self) -> int:
        """How many connections it carries now, half-open ones included."""
        return len(self._links)

    def dsn(self, base: str | None = None) -> str:
        """Rewrite a DSN, its own unless given, to lead through here; a URI stays a URI."""
        base = self._target if base is None else base
        params = conninfo_to_dict(base)
        params.pop("hostaddr", None)
        params |= {"host": LOOPBACK, "port": str(self.port), "sslmode": "disable"}
        if not base.startswith(("postgresql://", "postgres://")):
            return make_conninfo("", **params)
        parts = {name: str(value) for name, value in params.items() if value is not None}
        user, password = parts.pop("user", ""), parts.pop("password", None)
        login = quote(user, safe="") + ("" if password is None else ":" + quote(password, safe=""))
        address = f"{parts.pop('host')}:{parts.pop('port')}"
        database = quote(parts.pop("dbname", ""), safe="")
        at = "@" if login else ""
        return f"postgresql://{login}{at}{address}/{database}?{urlencode(parts, quote_via=quote)}"

    def cut_all(self) -> int:
        """Reset every connection, on both sides; return how many."""
        for link in self._links:
            link.sever()
        return len(self._links)

    def pause(self) -> None:
        """Accept connections and bytes, and forward nothing, not even an end."""
        self._conditions.flowing.clear()

    def resume(self) -> None:
        """Forward what was sent meanwhile, and all that follows."""
        self._conditions.flowing.set()

    def latency(self, seconds: float) -> None:
        """Let everything take this much longer from now on, in each direction."""
        self._conditions.latency = seconds

    def refuse(self) -> None:
        """Refuse new connections, as if nothing listened; those that stand are left alone."""
        if self._listener:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def accept(self) -> None:
        """Accept connections again, on the same port."""
        if not self._listener:
            self._listener = socket.create_server((LOOPBACK, self.port), reuse_port=True)
            self._listener.setblocking(False)
            asyncio.get_running_loop().add_reader(self._listener, self._welcome, self._listener)

    def cut_before_reply(self, predicate: Predicate, *, times: int = 1) -> Cut:
        """Let the server commit a statement, then end the connection instead of answering.

        Fires when the transaction in which the statement ran has been committed, at once outside
        an explicit one; earlier answers inside such a transaction pass. What is rolled back, or
        fails, or shares a Sync with something that fails, passes and does not count.
        """
        return self._arm(Cut("reply", predicate, times=times))

    def cut_before_send(self, predicate: Predicate, *, times: int = 1) -> Cut:
        """End the connection instead of sending a statement: the server never sees it.

        What was sent before it arrives; a transaction left open by that is rolled back.
        """
        return self._arm(Cut("send", predicate, times=times))

    async def __aenter__(self) -> Self:
        # Bound but never listening, it keeps the port ours while connections are refused.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind((LOOPBACK, 0))
        self.accept()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.refuse()
        self.cut_all()
        if tasks := [link.task for link in self._links]:
            _, stuck = await asyncio.wait(tasks, timeout=2 * PATIENCE)
            assert not stuck, f"{len(stuck)} connections of the proxy did not end"
        if self._reserved:
            self._reserved.close()
        if self._failures:
            raise ExceptionGroup("inside the proxy", self._failures)

    def _arm(self, cut: Cut) -> Cut:
        self._conditions.armed.append(cut)
        return cut

    def _welcome(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:
            return  # gone before we came
        client.setblocking(False)
        link = Link(client, self._connect, self._conditions)
        self._links.add(link)
        link.task.add_done_callback(lambda task: self._forget(link, task))

    def _forget(self, link: Link, task: asyncio.Task[None]) -> None:
        self._links.discard(link)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._failures.append(error)

    def _connect(self) -> Awaitable[Streams]:
        if self._host.startswith("/"):
            return asyncio.open_unix_connection(f"{self._host}/.s.PGSQL.{self._port}")
        return asyncio.open_connection(self._host, self._port)


def _address(dsn: str) -> tuple[str, int]:
    """Where a DSN leads: a host or a directory of sockets, and a port."""
    params = conninfo_to_dict(dsn)
    host = str(params.get("hostaddr") or params.get("host") or "localhost")
    port = str(params.get("port") or 5432)
    if "," in host + port:
        raise ValueError(f"the DSN names several servers ({host}, {port}), a proxy carries to one")
    return host, int(port)
