"""The rows of the fault table, each a scenario on real processes and a real server.

A scenario gets a cluster whose server it may break, and a scale: how many jobs, and how long the
faults last, against the short form.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import make_conninfo
from tests.chaos.cluster import QUEUES, REFRESHER, Cluster, together
from tests.chaos.node import Blocking, Holding, Plain, Stubborn, Threaded, Wall
from tests.chaos.server import Server
from tests.faults.bouncer import MISSING, PROGRAM, bouncer
from tests.faults.proxy import Proxy

from oban import Job, Oban
from oban.errors import DatabaseUnavailable, OutcomeUnknown

Scenario = Callable[[Cluster, Server, float], Awaitable[None]]

SCENARIOS: Final[dict[str, Scenario]] = {}


def scenario(title: str) -> Callable[[Scenario], Scenario]:
    def register(run: Scenario) -> Scenario:
        SCENARIOS[title] = run
        return run

    return register


def many(base: int, scale: float) -> int:
    return int(base * scale)


@scenario("SIGKILL of workers, and of the leader, again and again")
async def killed(cluster: Cluster, server: Server, scale: float) -> None:
    await together(cluster.start() for _ in range(3))
    count = many(60_000, scale)
    await cluster.enqueue(count, seconds=0.002)
    await cluster.enqueue(40, seconds=3.0)
    for _ in range(many(6, scale)):
        await asyncio.sleep(cluster.chance.uniform(0.4, 0.9))
        cluster.kill(cluster.chance.choice(cluster.living()))
        await cluster.start()
    leader = await living_leader(cluster)
    cluster.kill(cluster.nodes[leader])
    await cluster.settle()
    await asyncio.sleep(REFRESHER["max_age"])
    elected = await asyncio.to_thread(
        cluster.query, "select node from oban_leases where expires_at > now()"
    )
    cluster.expect(elected and elected[0][0] != leader, "nobody followed the leader")
    await cluster.terminate(*cluster.living())


async def living_leader(cluster: Cluster) -> str:
    """The node that leads; one that was killed may hold the lease for a while."""
    query = "select node from oban_leases where expires_at > now()"
    while True:
        for (name,) in await asyncio.to_thread(cluster.query, query):
            if cluster.nodes[name].returncode is None:
                return str(name)
        await asyncio.sleep(0.1)


@scenario("workers and the server killed together")
async def killed_with_server(cluster: Cluster, server: Server, scale: float) -> None:
    await together(cluster.start() for _ in range(2))
    await cluster.enqueue(many(8_000, scale), seconds=0.005)
    await cluster.started(1_000)
    for node in cluster.living():
        cluster.kill(node)
    await asyncio.to_thread(server.stop, "immediate")
    await asyncio.to_thread(server.start)
    await together(cluster.start() for _ in range(2))
    await cluster.settle()
    await cluster.terminate(*cluster.living())


@scenario("SIGSTOP past the lease, then SIGCONT")
async def frozen(cluster: Cluster, server: Server, scale: float) -> None:
    zombie, _ = await together(cluster.start() for _ in range(2))
    await cluster.enqueue(many(6_000, scale), seconds=0.01)
    await cluster.enqueue(20, seconds=1.0)
    await cluster.started(200)
    async with cluster.frozen(zombie):
        await asyncio.sleep(2 * REFRESHER["max_age"] + 1)
    await cluster.settle()
    await asyncio.sleep(1)
    await cluster.terminate(*cluster.living())


@scenario("SIGTERM with long jobs of every kind")
async def terminated(cluster: Cluster, server: Server, scale: float) -> None:
    node = await cluster.start(shutdown_grace_period=1.0)
    for kind in (Plain, Threaded, Stubborn):
        await cluster.enqueue(3, kind, queue="default", seconds=30.0)
    await cluster.started(9)
    began = time.monotonic()
    await cluster.terminate(node)
    took = time.monotonic() - began
    cluster.expect(took < 3, f"stopping took {took:.1f} s")
    rows = cluster.query("select state::text, attempt, errors::text from oban_jobs")
    cluster.expect(set(rows) == {("available", 0, "[]")}, f"jobs were left as {set(rows)}")
    cluster.query("delete from oban_jobs")
    cluster.enqueued.clear()


@scenario("connections cut between a commit and its reply")
async def lost_replies(cluster: Cluster, server: Server, scale: float) -> None:
    async with Proxy(cluster.dsn) as proxy:
        await cluster.start(proxy.dsn())
        async with Oban(pool=proxy.dsn(), name="behind the proxy") as client:
            for _ in range(many(20, scale)):
                proxy.cut_before_reply(lambda sql: "with ended as" in sql)
                proxy.cut_before_reply(lambda sql: "overriding system value" in sql)
                jobs = cluster.make(250)
                with contextlib.suppress(OutcomeUnknown):
                    await client.enqueue_many(jobs)
                await settle_insert(cluster, client, jobs)
                await asyncio.sleep(0.05)
        await cluster.settle()
        await cluster.terminate(*cluster.living())


async def settle_insert(cluster: Cluster, client: Oban, jobs: list[Job]) -> None:
    """Look before repeating, as the error says."""
    numbers = [job.args["n"] for job in jobs]
    query = "select count(*) from oban_jobs where (args ->> 'n')::int = any(%s)"
    ((found,),) = await asyncio.to_thread(cluster.query, query, numbers)
    cluster.expect(found in (0, len(jobs)), f"a part of an insert was committed: {found}")
    if not found:
        for _ in range(20):
            with contextlib.suppress(OutcomeUnknown, DatabaseUnavailable):
                await client.enqueue_many(jobs)
                return
        cluster.fail("an insert never succeeded")


@scenario("every connection terminated, again and again under load")
async def terminated_connections(cluster: Cluster, server: Server, scale: float) -> None:
    await together(cluster.start() for _ in range(2))
    await cluster.enqueue(many(24_000, scale))
    for _ in range(many(8, scale)):
        await asyncio.sleep(0.3)
        await asyncio.to_thread(
            cluster.query,
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name like 'oban %' and pid <> pg_backend_pid()",
        )
    await cluster.settle()
    await cluster.terminate(*cluster.living())


@scenario("the server restarted, away for a while, and away during a start")
async def outages(cluster: Cluster, server: Server, scale: float) -> None:
    await together(cluster.start() for _ in range(2))
    await cluster.enqueue(30, seconds=many(8, scale) + 4.0)
    await cluster.started(30)
    for mode in ("fast", "immediate"):
        await cluster.enqueue(many(4_000, scale), seconds=0.002)
        await asyncio.to_thread(server.stop, mode)
        await asyncio.to_thread(server.start)
    await asyncio.to_thread(server.stop, "fast")
    late = asyncio.create_task(start_when_possible(cluster))
    await asyncio.sleep(min(65.0, 6 * scale))
    await asyncio.to_thread(server.start)
    back_at = time.monotonic()
    await late
    await cluster.enqueue(10)
    await cluster.reached("select count(*) from oban_jobs where state = 'completed'", 1, 10)
    await cluster.settle()
    cluster.note(f"work resumed and ended {time.monotonic() - back_at:.1f} s after the return")
    crashed = cluster.query("select count(*) from oban_jobs where meta ? 'crashes'")[0][0]
    cluster.expect(crashed == 0, f"{crashed} jobs of living processes were rescued")
    await cluster.terminate(*cluster.living())


async def start_when_possible(cluster: Cluster) -> None:
    """A start while the server is away fails with a clear error, and succeeds when it is back."""
    while True:
        try:
            await cluster.start()
        except Exception:  # it ended, as a supervisor would see
            cluster.files.pop()
            await asyncio.sleep(1)
        else:
            return


@scenario("a dump taken under load and restored elsewhere")
async def restored(cluster: Cluster, server: Server, scale: float) -> None:
    nodes = await together(cluster.start() for _ in range(2))
    await cluster.enqueue(many(3_000, scale), seconds=0.02)
    await cluster.enqueue(20, seconds=20.0)
    await cluster.started(200)
    file = server.folder / "dump"
    await asyncio.to_thread(server.dump, file)
    for node in nodes:
        cluster.kill(node)
    with Server() as elsewhere:
        elsewhere.restore(file)
        # What ran between the dump and the deaths is not known there: it runs again.
        cluster.dsn = elsewhere.dsn
        running = cluster.query("select count(*) from oban_jobs where state = 'executing'")[0][0]
        cluster.note(f"{running} jobs were executing in the dump")
        cluster.expect(running, "nothing was executing in the dump")
        cluster.query("update oban_jobs set args = args || '{\"seconds\": 0}'")
        await together(cluster.start() for _ in range(2))
        await cluster.settle()
        await cluster.terminate(*cluster.living())
        cluster.check()


@scenario("failover to a synchronous standby, the old server read-only")
async def failover(cluster: Cluster, server: Server, scale: float) -> None:
    standby = await asyncio.to_thread(server.standby)
    try:
        both = make_conninfo(
            host="127.0.0.1,127.0.0.1",
            port=f"{server.port},{standby.port}",
            user="postgres",
            dbname="postgres",
            target_session_attrs="read-write",
        )
        await together(cluster.start(both) for _ in range(2))
        await cluster.enqueue(many(6_000, scale), seconds=0.002)
        await cluster.started(500)
        await asyncio.to_thread(
            cluster.query, "alter system set default_transaction_read_only = on"
        )
        await asyncio.to_thread(cluster.query, "select pg_reload_conf()")
        await asyncio.sleep(0.5)
        await asyncio.to_thread(standby.promote)
        cluster.dsn = standby.dsn
        await cluster.settle()
        await cluster.terminate(*cluster.living())
        cluster.check()
    finally:
        standby.__exit__()


@scenario("all notifications dropped")
async def unheard(cluster: Cluster, server: Server, scale: float) -> None:
    cluster.query("create database elsewhere")
    elsewhere = make_conninfo(server.dsn, dbname="elsewhere")
    await together(cluster.start(listen_dsn=elsewhere) for _ in range(2))
    await without_notifications(cluster, many(10_000, scale))


@scenario("PgBouncer in transaction mode")
async def pooled(cluster: Cluster, server: Server, scale: float) -> None:
    if PROGRAM is None:
        cluster.note(f"not run: {MISSING}")
        return
    with bouncer(cluster.dsn) as through:
        await together(cluster.start(through) for _ in range(2))
        await without_notifications(cluster, many(10_000, scale))


async def without_notifications(cluster: Cluster, count: int) -> None:
    """Everything that notifications hasten, without them."""
    await cluster.enqueue(count)
    (patient,) = await cluster.enqueue(1, seconds=30.0)
    await cluster.reached(
        f"select count(*) from oban_jobs where id = {patient.id} and state = 'executing'", 1
    )
    cluster.touched.add(patient.args["n"])
    async with Oban(pool=cluster.dsn) as client:
        await client.cancel_job(patient)
        await cluster.reached(
            f"select count(*) from oban_jobs where id = {patient.id} and stopping_at is null", 1
        )
        await cluster.settle()
        await client.pause_all_queues()
        paused = "select count(*) from oban_producers where (meta ->> 'paused')::boolean"
        await cluster.reached(paused, 2 * len(QUEUES), 5)
        await client.resume_all_queues()
        cluster.kill(cluster.nodes["node0"])
        await cluster.enqueue(count // 10)
        await cluster.settle()
    await cluster.terminate(*cluster.living())


@scenario("half-open connections, half a second of latency, stalls")
async def slow_network(cluster: Cluster, server: Server, scale: float) -> None:
    async with Proxy(cluster.dsn) as proxy:
        slow = {"interval": 1.5, "max_age": 6.0}
        await cluster.start(proxy.dsn(), refresher=slow)
        await cluster.start(refresher=slow)
        await cluster.enqueue(many(3_000, scale), seconds=0.02)
        proxy.latency(0.5)
        await asyncio.sleep(3)
        proxy.latency(0.0)
        proxy.pause()
        await asyncio.sleep(3)
        proxy.resume()
        await cluster.settle()
        crashed = cluster.query("select count(*) from oban_jobs where meta ? 'crashes'")[0][0]
        cluster.expect(crashed == 0, f"{crashed} jobs of living processes were rescued")
        await cluster.terminate(*cluster.living())


@scenario("the event loop blocked, the interpreter lock held past max_age")
async def blocked(cluster: Cluster, server: Server, scale: float) -> None:
    await together(cluster.start() for _ in range(2))
    long = min(30.0, 6 * scale)
    await cluster.enqueue(1, Blocking, queue="other", seconds=long)
    await cluster.started(1)
    await cluster.enqueue(many(2_000, scale), queue="default")
    await cluster.settle(long + 30)
    crashed = cluster.query("select count(*) from oban_jobs where meta ? 'crashes'")[0][0]
    cluster.expect(crashed == 0, "a process whose loop was blocked was taken for dead")
    told = "".join(cluster.outputs())
    cluster.expect("oban.refresher.blocked" in told, "nobody named the culprit")
    # A lock that is held cannot be told from death: the fence keeps it right.
    (holder,) = await cluster.enqueue(1, Holding, queue="other", seconds=2.5)
    cluster.touched.add(holder.args["n"])
    await cluster.settle()
    await asyncio.sleep(1)
    await cluster.terminate(*cluster.living())


@scenario("a live job that looks a day old, while the server restarts at once")
async def old(cluster: Cluster, server: Server, scale: float) -> None:
    quick = {"interval": 0.3, "max_age": 1.0}
    await together(cluster.start(refresher=quick) for _ in range(2))
    seconds = 12 * scale  # in the long form a minute
    await cluster.enqueue(4, seconds=seconds)
    await cluster.started(4)
    age = "update oban_jobs set attempted_at = attempted_at - interval '1 day'"
    cluster.query(age)
    (foreign,) = cluster.query(
        "insert into oban_jobs (worker, state, attempt, attempted_by, attempted_at) values "
        "('Elixir.Worker', 'executing', 1, array['elixir', gen_random_uuid()::text], "
        "timezone('UTC', now()) - interval '1 day') returning id"
    )
    await asyncio.sleep(seconds / 3)
    await asyncio.to_thread(server.stop, "immediate")
    await asyncio.to_thread(server.start)
    cluster.query(age)
    await cluster.reached(
        "select count(*) from oban_jobs where state = 'completed'", 4, seconds + 30
    )
    runs = cluster.query("select attempt, meta ? 'crashes' from oban_jobs where id <> %s", *foreign)
    cluster.expect(set(runs) == {(1, False)}, f"live jobs became {set(runs)}")
    left = cluster.query("select state::text, attempt from oban_jobs where id = %s", *foreign)
    cluster.expect(left == [("executing", 1)], f"a foreign job became {left}")
    cluster.query("delete from oban_jobs where id = %s", *foreign)
    await cluster.terminate(*cluster.living())


#: Where Debian keeps what steps the clock of one process.
FAKETIME: Final = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


@scenario("the wall clock of a node steps by an hour, forth and back")
async def stepped(cluster: Cluster, server: Server, scale: float) -> None:
    if FAKETIME is None:
        cluster.note("not run: there is no libfaketime on this machine")
        return
    steps = cluster.folder / "steps"
    steps.write_text("+0")
    await cluster.start()
    queues = {**QUEUES, "stepped": 5}
    env = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(steps),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    await cluster.start(env=env, queues=queues)
    await cluster.enqueue(many(8_000, scale), seconds=0.01)
    async with Oban(pool=cluster.dsn, name="chaos client") as client:
        for step in ("+3600", "-3600", "+0"):
            steps.write_text(step)
            (job,) = await cluster.enqueue(1, Wall, queue="stepped")
            later = cluster.make(200, queue="stepped")
            for each in later:
                each.update({"schedule_in": 1.0})
            await client.enqueue_many(later)
            await asyncio.sleep(REFRESHER["max_age"] + 1)
            found = await client.get_job(job)
            seen = found and found.recorded()
            off = seen - time.time() if isinstance(seen, float) else None
            told = off is not None and abs(off - int(step)) < 60
            cluster.expect(told, f"at {step} s the node's clock was off by {off} s")
    await cluster.settle()
    early = "select count(*) from oban_jobs where attempted_at < scheduled_at"
    cluster.expect(cluster.query(early) == [(0,)], "jobs ran before their time")
    late = "select max(extract(epoch from attempted_at - scheduled_at))::float8 from oban_jobs "
    ((longest,),) = cluster.query(late + "where queue = 'stepped'")
    cluster.expect(longest < 2, f"a scheduled job was {longest:.1f} s late")
    ((crashed,),) = cluster.query("select count(*) from oban_jobs where meta ? 'crashes'")
    cluster.expect(crashed == 0, f"{crashed} jobs of living processes were rescued")
    await cluster.terminate(*cluster.living())


@scenario("statement timeouts and locks of user transactions")
async def contended(cluster: Cluster, server: Server, scale: float) -> None:
    cluster.query("alter role postgres set statement_timeout = '150ms'")
    await together(cluster.start() for _ in range(2))
    count = many(5_000, scale)
    ends = time.monotonic() + 4

    def lock_rows() -> None:
        while time.monotonic() < ends:
            with contextlib.suppress(psycopg.Error), psycopg.connect(cluster.dsn) as connection:
                connection.execute("set statement_timeout = 0")
                connection.execute(
                    "select id from oban_jobs tablesample bernoulli (20) order by id desc "
                    "for update skip locked"
                )
                time.sleep(0.2)

    locking = asyncio.gather(*(asyncio.to_thread(lock_rows) for _ in range(2)))
    for _ in range(5):
        await cluster.enqueue(count // 5, seconds=0.001)
        await asyncio.sleep(0.3)
    await locking
    await cluster.settle()
    await cluster.terminate(*cluster.living())


@scenario("hostile rows among the others")
async def hostile(cluster: Cluster, server: Server, scale: float) -> None:
    await together(cluster.start() for _ in range(2))
    for _ in range(5):
        await cluster.enqueue(many(1_000, scale))
        for worker, args, more in (
            ("no.such.Worker", "{}", "20, 0, 0"),
            ("tests.chaos.node.Plain", "[1, 2]", "20, 0, 0"),
            ("tests.chaos.node.Plain", '"text"', "20, 0, 0"),
            ("os.system", '{"command": "true"}', "20, 0, 0"),
            ("tests.chaos.node.Plain", "{}", "3, 3, 0"),
            ("tests.chaos.node.Plain", "{}", "1, 0, 10"),
            ("\u202e\u0007", '{"deep": ' + "[" * 500 + "]" * 500 + "}", "20, 0, 0"),
            ("tests.chaos.node.Plain", '{"x": "' + "y" * 5_000_000 + '"}', "1, 0, 0"),
        ):
            cluster.query(
                "insert into oban_jobs (worker, args, max_attempts, attempt, priority, queue) "
                f"values (%s, %s, {more}, 'default')",
                worker,
                args,
            )
    await cluster.reached(
        "select count(*) from oban_jobs where state = 'completed'", len(cluster.enqueued), 60
    )
    await cluster.terminate(*cluster.living())


@scenario("a transaction that holds back vacuum")
async def held_back(cluster: Cluster, server: Server, scale: float) -> None:
    node = await cluster.start(queues={"default": 100, "other": 100})
    count = many(8_000, scale)

    async def drain() -> float:
        async with Oban(pool=cluster.dsn) as client:
            await client.pause_all_queues()
        await cluster.enqueue(count)
        began = time.monotonic()
        async with Oban(pool=cluster.dsn) as client:
            await client.resume_all_queues()
        await cluster.settle()
        return count / (time.monotonic() - began)

    await drain()
    normal = await drain()
    with psycopg.connect(cluster.dsn) as connection:
        connection.execute("set transaction isolation level repeatable read")
        connection.execute("select count(*) from oban_jobs")
        first = await drain()
        held = await drain()
    cluster.note(f"jobs per second: {normal:.0f}, while held back {first:.0f} and {held:.0f}")
    cluster.expect(held * 2 >= normal, "throughput fell to less than a half")
    await cluster.terminate(node)
