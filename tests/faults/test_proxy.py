"""Each fault the proxy can make, seen from the client and from the server."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import psycopg
import pytest
from psycopg import AsyncConnection, AsyncCursor, OperationalError, generators
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import ExecStatus
from tests.faults.link import PATIENCE
from tests.faults.proxy import Proxy

pytestmark = pytest.mark.own_session("it stands between the proxy and the server")

INSERT = "insert into notes (id) values (%s)"
SSL_REQUEST, GSS_REQUEST = 80877103, 80877104


@pytest.fixture
async def direct(dsn: str) -> AsyncIterator[AsyncConnection]:
    """A connection past the proxy, to a database with an empty table."""
    async with await AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("create table notes (id int primary key)")
        yield connection


@pytest.fixture
async def proxy(dsn: str) -> AsyncIterator[Proxy]:
    async with Proxy(dsn) as proxy:
        yield proxy


@asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[AsyncConnection]:
    """A psycopg connection through the proxy, in autocommit, closed whatever became of it."""
    connection = await AsyncConnection.connect(proxy.dsn(), autocommit=True)
    try:
        yield connection
    finally:
        await connection.close()


async def notes(direct: AsyncConnection) -> list[int]:
    cursor = await direct.execute("select id from notes order by id")
    return [note for (note,) in await cursor.fetchall()]


async def sessions(direct: AsyncConnection) -> int:
    """How many other sessions the server has in this database."""
    cursor = await direct.execute(
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )
    row = await cursor.fetchone()
    assert row
    return int(row[0])


def inserting(sql: str) -> bool:
    return sql.startswith("insert into notes")


def the_nth(nth: int, predicate: Callable[[str], bool]) -> Callable[[str], bool]:
    """True once, for the nth statement that satisfies the predicate."""
    seen = 0

    def count(sql: str) -> bool:
        nonlocal seen
        seen += predicate(sql)
        return predicate(sql) and seen == nth

    return count


async def until_blocked(direct: AsyncConnection) -> None:
    """Wait until another session waits for a lock that this one holds."""
    while True:
        cursor = await direct.execute(
            "select 1 from pg_stat_activity where pg_backend_pid() = any (pg_blocking_pids(pid))"
        )
        if await cursor.fetchone():
            return
        await asyncio.sleep(0.01)


class TestCarrying:
    async def test_a_client_works_as_if_it_were_connected_directly(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        big = "x" * 5_000_000
        async with connected(proxy) as connection:
            cursor = await connection.execute("select %s::text", [big])
            assert await cursor.fetchone() == (big,)
            cursor = await connection.execute("select generate_series(1, 50000)")
            assert len(await cursor.fetchall()) == 50_000
            cursor = connection.cursor()
            async with cursor.copy("copy notes from stdin") as copy:
                await copy.write("1\n2\n3\n")
            async with cursor.copy("copy notes to stdout") as copy:
                assert b"".join([bytes(chunk) async for chunk in copy]) == b"1\n2\n3\n"
            await cursor.execute("listen bell")
            await direct.execute("notify bell, 'ding'")
            async for call in connection.notifies(timeout=10, stop_after=1):
                assert call.payload == "ding"
            with pytest.raises(psycopg.errors.DivisionByZero):
                await connection.execute("select 1 / 0")
            assert proxy.connection_count == 1

    async def test_many_clients_work_at_once(self, proxy: Proxy, direct: AsyncConnection) -> None:
        async def insert(note: int) -> None:
            async with connected(proxy) as connection:
                await connection.execute(INSERT, [note])

        await asyncio.gather(*(insert(note) for note in range(10)))
        assert await notes(direct) == list(range(10))

    async def test_a_blocking_client_works_on_a_thread(self, proxy: Proxy) -> None:
        def ask() -> object:
            with psycopg.connect(proxy.dsn()) as connection:
                return connection.execute("select 42").fetchone()

        assert await asyncio.to_thread(ask) == (42,)

    async def test_a_server_s_unix_socket_is_reached(
        self, dsn: str, direct: AsyncConnection
    ) -> None:
        cursor = await direct.execute(
            "select current_setting('data_directory'), current_setting('unix_socket_directories')"
        )
        data, folders = await cursor.fetchone() or ("", "")
        folder, port = Path(data, folders.split(",")[0].strip()).resolve(), direct.info.port
        if not (folder / f".s.PGSQL.{port}").is_socket():
            pytest.skip(f"the server has no unix socket on this machine: {folders!r} in {data}")
        by_socket = make_conninfo(dsn, host=str(folder), hostaddr="", port=port)
        async with Proxy(by_socket) as proxy, connected(proxy) as connection:
            cursor = await connection.execute("select inet_client_addr() is null")
            assert await cursor.fetchone() == (True,)

    @pytest.mark.parametrize("code", [SSL_REQUEST, GSS_REQUEST])
    async def test_encryption_is_declined(self, proxy: Proxy, code: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write((8).to_bytes(4) + code.to_bytes(4))
        assert await reader.readexactly(1) == b"N"
        writer.close()
        await writer.wait_closed()

    async def test_a_client_that_prefers_tls_goes_on_without(self, proxy: Proxy) -> None:
        prefer = make_conninfo(proxy.dsn(), sslmode="prefer")
        async with await AsyncConnection.connect(prefer) as connection:
            assert not connection.pgconn.ssl_in_use
        with pytest.raises(OperationalError, match="SSL"):
            await AsyncConnection.connect(make_conninfo(proxy.dsn(), sslmode="require"))

    async def test_a_cancel_request_reaches_the_server(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        async with connected(proxy) as connection, direct.transaction():
            await direct.execute("lock table notes")
            reading = asyncio.create_task(connection.execute("select id from notes"))
            await until_blocked(direct)
            await connection.cancel_safe(timeout=5)
            with pytest.raises(psycopg.errors.QueryCanceled):
                await asyncio.wait_for(reading, 10)

    async def test_an_absent_server_is_a_lost_connection(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            async with Proxy(f"host=127.0.0.1 port={port}") as proxy:
                with pytest.raises(OperationalError):
                    await AsyncConnection.connect(proxy.dsn(), connect_timeout=10)


class TestDsn:
    async def test_only_the_way_changes_in_a_keyword_string(self, proxy: Proxy, dsn: str) -> None:
        base = make_conninfo(
            dsn, hostaddr="127.0.0.1", application_name="it's me", sslmode="prefer"
        )
        before, after = conninfo_to_dict(base), conninfo_to_dict(proxy.dsn(base))
        way = {"host": "127.0.0.1", "port": str(proxy.port), "sslmode": "disable"}
        assert after == {k: v for k, v in before.items() if k != "hostaddr"} | way

    async def test_a_uri_stays_a_uri(self, proxy: Proxy) -> None:
        after = proxy.dsn("postgres://me%40home:p%2F:w@db.example:6/my%2Fdb?application_name=a%20b")
        assert after.startswith("postgresql://me%40home:")
        assert conninfo_to_dict(after) == {
            "user": "me@home",
            "password": "p/:w",
            "host": "127.0.0.1",
            "port": str(proxy.port),
            "dbname": "my/db",
            "application_name": "a b",
            "sslmode": "disable",
        }
        assert conninfo_to_dict(proxy.dsn("postgresql:///db?host=/run"))["host"] == "127.0.0.1"

    def test_several_servers_are_refused(self) -> None:
        with pytest.raises(ValueError, match="a proxy carries to one"):
            Proxy("host=a,b port=1,2")


class TestCutAll:
    async def test_idle_and_busy_connections_are_lost_and_new_ones_work(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        async with connected(proxy) as idle, connected(proxy) as busy:
            sleeping = asyncio.create_task(busy.execute("select pg_sleep(1)"))
            await idle.execute("select 1")
            assert proxy.cut_all() == 2
            with pytest.raises(OperationalError):
                await asyncio.wait_for(sleeping, 10)
            with pytest.raises(OperationalError):
                await idle.execute("select 1")
        async with connected(proxy) as fresh:
            await fresh.execute("select 1")
        while await sessions(direct):
            await asyncio.sleep(0.01)

    async def test_the_end_is_a_reset(self, proxy: Proxy) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write((8).to_bytes(4) + SSL_REQUEST.to_bytes(4))
        await reader.readexactly(1)
        proxy.cut_all()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()

    async def test_cutting_twice_is_harmless(self, proxy: Proxy) -> None:
        async with connected(proxy):
            proxy.cut_all()
            proxy.cut_all()
        while proxy.connection_count:
            await asyncio.sleep(0)
        assert proxy.cut_all() == 0


class TestPause:
    async def test_nothing_is_forwarded_until_resumed(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        async with connected(proxy) as connection:
            proxy.pause()
            inserting = asyncio.create_task(connection.execute(INSERT, [1]))
            connecting = asyncio.create_task(AsyncConnection.connect(proxy.dsn()))
            done, _ = await asyncio.wait([inserting, connecting], timeout=0.3)
            assert not done
            assert await notes(direct) == []
            assert await sessions(direct) == 1
            proxy.resume()
            await asyncio.wait_for(inserting, 10)
            await (await asyncio.wait_for(connecting, 10)).close()
        assert await notes(direct) == [1]

    async def test_an_answer_is_withheld_although_the_server_gave_it(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        async with connected(proxy) as connection:
            await direct.execute("begin; lock table notes")
            inserting = asyncio.create_task(connection.execute(INSERT, [1]))
            await until_blocked(direct)
            proxy.pause()
            await direct.execute("commit")
            while await notes(direct) != [1]:
                await asyncio.sleep(0.01)
            done, _ = await asyncio.wait([inserting], timeout=0.2)
            assert not done
            proxy.resume()
            await asyncio.wait_for(inserting, 10)

    async def test_a_connection_made_meanwhile_does_not_reach_the_server(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            async with Proxy(f"host=127.0.0.1 port={server.getsockname()[1]}") as proxy:
                proxy.pause()
                _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
                await asyncio.sleep(0.05)
                with pytest.raises(BlockingIOError):
                    server.accept()
                proxy.resume()
                carried, _ = await asyncio.get_running_loop().sock_accept(server)
                carried.close()
                writer.close()

    async def test_a_paused_connection_can_be_cut(self, proxy: Proxy) -> None:
        async with connected(proxy) as connection:
            proxy.pause()
            asking = asyncio.create_task(connection.execute("select 1"))
            connecting = asyncio.create_task(AsyncConnection.connect(proxy.dsn()))
            await asyncio.wait([asking, connecting], timeout=0.1)
            assert proxy.cut_all() == 2
            for task in asking, connecting:
                with pytest.raises(OperationalError):
                    await asyncio.wait_for(task, 10)


class TestLatency:
    async def test_each_direction_takes_longer(self, proxy: Proxy) -> None:
        async with connected(proxy) as connection:
            proxy.latency(0.2)
            start = time.monotonic()
            await connection.execute("select 1")
            assert time.monotonic() - start >= 0.4
            proxy.latency(0)
            start = time.monotonic()
            await connection.execute("select 1")
            assert time.monotonic() - start < 0.4

    async def test_a_large_answer_is_late_once_and_not_once_per_chunk(self, proxy: Proxy) -> None:
        async with connected(proxy) as connection:
            proxy.latency(0.3)
            start = time.monotonic()
            cursor = await connection.execute("select repeat('x', 3000000)")
            assert await cursor.fetchone() == ("x" * 3_000_000,)
            assert 0.6 <= time.monotonic() - start < 5  # 46 chunks alone would be 14 s


class TestRefuse:
    async def test_new_connections_are_refused_and_standing_ones_live(self, proxy: Proxy) -> None:
        async with connected(proxy) as standing:
            proxy.refuse()
            proxy.refuse()
            with pytest.raises(OperationalError, match="refused"):
                await AsyncConnection.connect(proxy.dsn())
            await standing.execute("select 1")
            port = proxy.port
            proxy.accept()
            proxy.accept()
            assert proxy.port == port
            async with connected(proxy) as fresh:
                await fresh.execute("select 1")


class TestCutBeforeReply:
    async def test_an_insert_is_committed_though_the_client_lost_its_connection(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        cut = proxy.cut_before_reply(inserting)
        async with connected(proxy) as connection:
            await connection.execute("select 1")
            with pytest.raises(OperationalError):
                await connection.execute(INSERT, [1])
            assert cut.fired_count == 1
            assert await sessions(direct) == 0
        await cut.fired()
        assert await notes(direct) == [1]
        async with connected(proxy) as connection:
            await connection.execute(INSERT, [2])
        assert await notes(direct) == [1, 2]

    async def test_a_simple_query_and_a_blocking_client_likewise(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        cut = proxy.cut_before_reply(inserting)

        def insert() -> None:
            with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
                connection.pgconn.exec_(
                    b"insert into notes values (1); insert into notes values (2)"
                )
                connection.execute("select 1")

        with pytest.raises(OperationalError):
            await asyncio.to_thread(insert)
        assert cut.fired_count == 1
        assert await notes(direct) == [1, 2]

    async def test_a_statement_prepared_before_is_known_by_its_name(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        async with connected(proxy) as connection:
            for note in range(6):
                await connection.execute(INSERT, [note])
            cursor = await connection.execute("select statement from pg_prepared_statements")
            assert await cursor.fetchall() == [("insert into notes (id) values ($1)",)]
            cut = proxy.cut_before_reply(inserting)
            with pytest.raises(OperationalError):
                await connection.execute(INSERT, [6])
            assert cut.fired_count == 1
        assert await notes(direct) == list(range(7))

    async def test_the_predicate_is_asked_once_per_execution(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        cut = proxy.cut_before_reply(the_nth(7, inserting))
        async with connected(proxy) as connection:
            for note in range(6):
                await connection.execute(INSERT, [note])
            with pytest.raises(OperationalError):
                await connection.execute(INSERT, [6])
        assert cut.fired_count == 1
        assert await notes(direct) == list(range(7))

    async def test_in_a_transaction_it_fires_at_the_commit(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        cut = proxy.cut_before_reply(inserting)
        async with connected(proxy) as connection:
            with pytest.raises(OperationalError):
                async with connection.transaction():
                    cursor = await connection.execute(INSERT + " returning id", [1])
                    assert await cursor.fetchone() == (1,)
                    await connection.execute("select 1")
                    assert cut.fired_count == 0
        assert cut.fired_count == 1
        assert await notes(direct) == [1]

    async def test_what_fails_or_is_rolled_back_passes(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        await direct.execute("insert into notes values (1)")
        cut = proxy.cut_before_reply(inserting)
        async with connected(proxy) as connection:
            with pytest.raises(psycopg.errors.UniqueViolation):
                await connection.execute(INSERT, [1])
            async with connection.transaction(force_rollback=True):
                await connection.execute(INSERT, [2])
            with pytest.raises(psycopg.errors.DivisionByZero):
                async with connection.transaction():
                    await connection.execute(INSERT, [2])
                    await connection.execute("select 1 / 0")
            async with connection.transaction():
                with pytest.raises(psycopg.errors.UniqueViolation):
                    async with connection.transaction():
                        await connection.execute(INSERT, [1])
            assert cut.fired_count == 0
            assert await notes(direct) == [1]
            with pytest.raises(OperationalError):
                await connection.execute(INSERT, [2])
        assert await notes(direct) == [1, 2]

    async def test_a_commit_that_fails_is_answered(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        await direct.execute("create table lines (n int unique deferrable initially deferred)")
        cut = proxy.cut_before_reply(lambda sql: sql.startswith("insert into lines"))
        async with connected(proxy) as connection:
            with pytest.raises(psycopg.errors.UniqueViolation):
                async with connection.transaction():
                    await connection.execute("insert into lines values (1), (1)")
            await connection.execute("select 1")
        assert cut.fired_count == 0

    async def test_a_pipeline_under_one_sync_loses_all_its_answers(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        cut = proxy.cut_before_reply(inserting)
        async with connected(proxy) as connection:
            with pytest.raises(OperationalError):
                async with connection.pipeline():
                    await connection.execute("select 1")
                    await connection.execute(INSERT, [1])
                    await connection.execute("select 2")
        assert cut.fired_count == 1
        assert await notes(direct) == [1]

    async def test_a_pipeline_that_reads_before_its_sync_is_not_stalled(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        cut = proxy.cut_before_reply(inserting)
        async with connected(proxy) as connection:
            with pytest.raises(OperationalError):
                async with connection.pipeline():
                    cursor = await connection.execute(INSERT + " returning id", [1])
                    assert await asyncio.wait_for(cursor.fetchone(), 10) == (1,)
        assert cut.fired_count == 1
        assert await notes(direct) == [1]

    async def test_a_transaction_in_a_pipeline_fires_at_its_commit(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        cut = proxy.cut_before_reply(inserting)
        async with connected(proxy) as connection:
            with pytest.raises(OperationalError):
                async with connection.pipeline(), connection.transaction():
                    cursor = await connection.execute(INSERT + " returning id", [1])
                    assert await asyncio.wait_for(cursor.fetchone(), 10) == (1,)
                    assert cut.fired_count == 0
        assert cut.fired_count == 1
        assert await notes(direct) == [1]

    async def test_a_pipeline_that_reads_after_its_commit_reads_nothing(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        cut = proxy.cut_before_reply(inserting)
        learned = []
        async with connected(proxy) as connection:
            with pytest.raises(OperationalError):
                async with connection.pipeline():
                    for statement in "begin", "insert into notes values (1)", "commit":
                        await connection.execute(statement)
                    cursor = await connection.execute("select 1")
                    learned.append(await asyncio.wait_for(cursor.fetchone(), 10))
        assert learned == []
        assert cut.fired_count == 1
        assert await notes(direct) == [1]

    async def test_a_pipeline_that_fails_is_answered(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        cut = proxy.cut_before_reply(inserting)
        async with connected(proxy) as connection:
            with pytest.raises(psycopg.errors.DivisionByZero):
                async with connection.pipeline():
                    await connection.execute(INSERT, [1])
                    await connection.execute("select 1 / 0")
            await connection.execute("select 1")
        assert cut.fired_count == 0
        assert await notes(direct) == []

    async def test_the_rows_of_executemany_are_committed_together(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        cut = proxy.cut_before_reply(the_nth(2, inserting))
        async with connected(proxy) as connection:
            with pytest.raises(OperationalError):
                await AsyncCursor(connection).executemany(INSERT, [[note] for note in range(20)])
        assert cut.fired_count == 1
        assert await notes(direct) == list(range(20))

    async def test_rows_copied_in_are_committed_too(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        async with connected(proxy) as connection:
            cut = proxy.cut_before_reply(lambda sql: sql.startswith("copy notes"))
            with pytest.raises(OperationalError):
                async with connection.cursor().copy("copy notes from stdin") as copy:
                    await copy.write("1\n2\n")
        assert cut.fired_count == 1
        assert await notes(direct) == [1, 2]

    async def test_the_count_of_answers_survives_a_copy(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        async with connected(proxy) as connection:
            async with connection.cursor().copy("copy notes from stdin") as copy:
                await copy.write("1\n")
            with pytest.raises(psycopg.errors.InvalidTextRepresentation):
                async with connection.cursor().copy("copy notes from stdin") as copy:
                    await copy.write("one\n")
            with pytest.raises(RuntimeError):
                async with connection.cursor().copy("copy notes from stdin") as copy:
                    await copy.write("2\n")
                    raise RuntimeError
            cut = proxy.cut_before_reply(inserting)
            await connection.execute("select 1")
            with pytest.raises(OperationalError):
                await connection.execute(INSERT, [3])
        assert cut.fired_count == 1
        assert await notes(direct) == [1, 3]

    async def test_a_copy_in_the_extended_protocol_ignores_the_sync_before_its_rows(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        async with connected(proxy) as connection:
            raw = connection.pgconn

            async def copy(rows: bytes) -> int:
                raw.send_query_params(b"copy notes from stdin", [])
                await connection.wait(generators.execute(raw))
                raw.put_copy_data(rows)
                raw.put_copy_end()
                (result,) = await connection.wait(generators.execute(raw))
                return int(result.status)

            assert await copy(b"1\n") == ExecStatus.COMMAND_OK
            assert await copy(b"one\n") == ExecStatus.FATAL_ERROR
            cut = proxy.cut_before_reply(inserting)
            await connection.execute("select 1")
            with pytest.raises(OperationalError):
                await connection.execute(INSERT, [2])
        assert cut.fired_count == 1
        assert await notes(direct) == [1, 2]

    async def test_it_fires_as_often_as_told_whatever_the_number_of_connections(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        cut = proxy.cut_before_reply(inserting, times=2)

        async def insert(note: int) -> None:
            async with connected(proxy) as connection:
                await connection.execute(INSERT, [note])

        results = await asyncio.gather(*(insert(note) for note in range(5)), return_exceptions=True)
        await cut.fired()
        assert [type(result) for result in results if result].count(OperationalError) == 2
        assert [result for result in results if result is None] == [None] * 3
        assert await notes(direct) == list(range(5))

    async def test_disarmed_it_lets_everything_pass(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        asked: list[str] = []

        def ask(sql: str) -> bool:
            asked.append(sql)
            return True

        cut = proxy.cut_before_reply(ask)
        cut.disarm()
        async with connected(proxy) as connection:
            await connection.execute(INSERT, [1])
        assert asked == []
        with pytest.raises(TimeoutError, match="fired 0 of 1 times"):
            await cut.fired(timeout=0.01)

    async def test_asyncpg_s_prepared_statement_is_cut_likewise(
        self, proxy: Proxy, dsn: str, direct: AsyncConnection
    ) -> None:
        way = conninfo_to_dict(proxy.dsn())
        connection = await asyncpg.connect(
            host=way["host"],
            port=int(str(way["port"])),
            user=way["user"],
            password=way.get("password"),
            database=way["dbname"],
            ssl="prefer",
        )
        statement = await connection.prepare("insert into notes values ($1)")
        await statement.fetch(1)
        cut = proxy.cut_before_reply(inserting)
        with pytest.raises((OSError, asyncpg.ConnectionDoesNotExistError)):
            await statement.fetch(2)
        connection.terminate()
        assert cut.fired_count == 1
        assert await notes(direct) == [1, 2]


class TestCutBeforeSend:
    async def test_the_statement_never_reaches_the_server(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        cut = proxy.cut_before_send(inserting)
        async with connected(proxy) as connection:
            await connection.execute("select 1")
            with pytest.raises(OperationalError):
                await connection.execute(INSERT, [1])
        assert cut.fired_count == 1
        async with connected(proxy) as connection:
            await connection.execute(INSERT, [2])
        assert await notes(direct) == [2]

    async def test_a_statement_prepared_before_is_known_by_its_name(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        cut = proxy.cut_before_send(the_nth(7, inserting))
        async with connected(proxy) as connection:
            for note in range(6):
                await connection.execute(INSERT, [note])
            with pytest.raises(OperationalError):
                await connection.execute(INSERT, [6])
        assert cut.fired_count == 1
        assert await notes(direct) == list(range(6))

    async def test_one_armed_between_preparing_and_executing_fires(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        async with connected(proxy) as connection:
            raw = connection.pgconn
            raw.send_prepare(b"add", b"insert into notes values (1)")
            await connection.wait(generators.execute(raw))
            cut = proxy.cut_before_send(inserting)
            raw.send_query_prepared(b"add", [])
            with pytest.raises(OperationalError):
                await connection.wait(generators.execute(raw))
        assert cut.fired_count == 1
        assert await notes(direct) == []

    async def test_a_commit_not_sent_leaves_no_row_and_no_lock(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        cut = proxy.cut_before_send(lambda sql: sql == "COMMIT")
        async with connected(proxy) as connection:
            start = time.monotonic()
            with pytest.raises(OperationalError):
                async with connection.transaction():
                    await connection.execute(INSERT, [1])
            assert time.monotonic() - start < PATIENCE  # the server left by itself
        assert cut.fired_count == 1
        assert await sessions(direct) == 0
        async with direct.transaction():
            await direct.execute("lock table notes nowait")
        assert await notes(direct) == []

    async def test_what_a_pipeline_synced_before_it_is_done(
        self, proxy: Proxy, direct: AsyncConnection
    ) -> None:
        cut = proxy.cut_before_send(the_nth(2, inserting))
        async with connected(proxy) as connection:
            with pytest.raises(OperationalError):
                async with connection.pipeline() as pipeline:
                    await connection.execute(INSERT, [1])
                    await pipeline.sync()
                    await connection.execute(INSERT, [2])
        assert cut.fired_count == 1
        assert await notes(direct) == [1]


class TestLeaving:
    async def test_no_task_and_no_session_stays_behind(
        self, dsn: str, direct: AsyncConnection
    ) -> None:
        before = asyncio.all_tasks()
        async with Proxy(dsn) as proxy:
            idle = await AsyncConnection.connect(proxy.dsn())
            proxy.pause()
            stuck = asyncio.create_task(AsyncConnection.connect(proxy.dsn()))
            await asyncio.wait([stuck], timeout=0.05)
            assert proxy.connection_count == 2
        assert proxy.connection_count == 0
        with pytest.raises(OperationalError):
            await asyncio.wait_for(stuck, 10)
        await idle.close()
        assert asyncio.all_tasks() == before
        while await sessions(direct):
            await asyncio.sleep(0.01)

    async def test_a_predicate_s_error_is_raised_then(self, dsn: str) -> None:
        def broken(sql: str) -> bool:
            raise LookupError(sql)

        with pytest.raises(ExceptionGroup) as caught:
            async with Proxy(dsn) as proxy, connected(proxy) as connection:
                proxy.cut_before_reply(broken)
                with pytest.raises(OperationalError):
                    await connection.execute("select 1")
        assert caught.group_contains(LookupError, match="select 1")

    async def test_something_that_is_not_postgresql_is_named(self, dsn: str) -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with Proxy(dsn) as proxy:
                reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
                writer.write(b"GET / HTTP/1.1\r\n\r\n")
                assert await reader.read() == b""
                writer.close()
        assert caught.group_contains(Exception, match="a message of")
