"""One node: an Oban that runs until it is told to stop."""

import asyncio
import contextlib
import importlib
import os
import time
from collections.abc import Awaitable
from dataclasses import fields, replace
from typing import Any, Final, TypeVar

from psycopg_pool import AsyncConnectionPool

from oban import schema, telemetry
from oban.cli.announcer import Announcer
from oban.cli.banner import banner, facts, running_text
from oban.cli.failures import FAILED
from oban.cli.logs import held_back
from oban.cli.overrides import overrides
from oban.cli.plan import Plan
from oban.cli.signals import StopSignals
from oban.cli.vitals import Observer
from oban.cli.watchdog import Watchdog
from oban.cli.watching import Watched, watch
from oban.cli.web import serving
from oban.errors import ObanError
from oban.lookup import WorkerFinder
from oban.oban import Oban
from oban.options import Options
from oban.pool import open_pool

T = TypeVar("T")

#: Seconds that closing the pool may take: the process ends right after.
CLOSING: Final = 0.3


def run_node(
    plan: Plan, dsn: str, signals: StopSignals, announcer: Announcer, watched: Watched
) -> None:
    """Run until a signal asks to stop, and then for as long as its jobs may take.

    The loop is left as it is, not closed: that would wait for tasks that never end. Whoever calls
    this ends the process.
    """
    loop = new_loop()
    asyncio.set_event_loop(loop)
    signals.attach(loop)
    serving = loop.create_task(serve(plan, dsn, signals, announcer, watched))
    while True:
        try:
            return loop.run_until_complete(serving)
        except (SystemExit, KeyboardInterrupt):
            if serving.done():
                raise
            # A task of a job has raised it, which stops the loop for all. That job has its error.


def new_loop() -> asyncio.AbstractEventLoop:
    """The fastest there is: uvloop's where it is installed."""
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


async def serve(
    plan: Plan, dsn: str, signals: StopSignals, announcer: Announcer, watched: Watched
) -> None:
    pool = await unless_asked(signals, open_pool(dsn, plan.configuration.pool))
    if pool is None:
        return
    try:
        await run_on(pool, plan, dsn, signals, announcer, watched=watched)
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSING):
                await pool.close()


async def run_on(
    pool: AsyncConnectionPool[Any],
    plan: Plan,
    dsn: str,
    signals: StopSignals,
    announcer: Announcer,
    *,
    watched: Watched,
) -> None:
    if plan.embedded:
        await schema.install(pool, plan.configuration.options.prefix)
    oban = make_oban(pool, plan)
    version = await schema.current_version(pool, oban.options.prefix)
    with held_back("oban.queue.control"):  # what is found at the start is told below
        if await unless_asked(signals, oban.start()) is None:
            return
    watchdog = Watchdog(oban, signals, announcer)
    telemetry.attach(WEDGED, WEDGED, lambda *_: os._exit(FAILED))
    observer = Observer(oban, version)
    told = facts(plan, dsn, version)
    if watched.health is not None:
        told["health"] = watched.health.address
    commanded = list(overrides(oban))
    watch(observer, watched, first={"facts": told, "overrides": commanded})
    if watched.report_to is None:  # a parent says it once for all
        announcer.tell("oban.node.start", banner(told), **told)
        for override in commanded:
            announcer.warn(override)
    async with serving(oban, watched.web):
        await asked_or_over(signals, oban)
    observer.stopping = True
    await stop(oban, signals, announcer)
    watchdog.code = 0


#: A worker has blocked the event loop for so long that the others count this process as dead.
WEDGED: Final = "oban.refresher.wedged"


def make_oban(pool: AsyncConnectionPool[Any], plan: Plan) -> Oban:
    options = plan.configuration.options
    given: dict[str, Any] = {each.name: getattr(options, each.name) for each in fields(Options)}
    oban = Oban(pool=pool, **given)
    oban.executor.finder = WorkerFinder(plan.app_dir, options.worker_modules)
    return oban


async def unless_asked(signals: StopSignals, work: Awaitable[T]) -> T | None:
    """What `work` returns; None, with the work cancelled, if a signal comes first."""
    task = asyncio.ensure_future(work)
    asked = asyncio.ensure_future(signals.asked.wait())
    await asyncio.wait([task, asked], return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.wait([task])
    return None


async def asked_or_over(signals: StopSignals, oban: Oban) -> None:
    """Wait until a signal asks to stop. Raises what the node ended by, if it has done so itself."""
    assert oban.supervisor is not None
    asked = asyncio.ensure_future(signals.asked.wait())
    await asyncio.wait([asked, oban.supervisor], return_when=asyncio.FIRST_COMPLETED)
    if not asked.done():
        asked.cancel()
        await oban.supervisor
        raise ObanError("the node has ended without being asked to")


async def stop(oban: Oban, signals: StopSignals, announcer: Announcer) -> None:
    """Let jobs finish within the grace period; say what is waited for, and that it is over."""
    assert signals.first is not None
    busy = {info.queue: len(info.running) for info in oban.check_all_queues() if info.running}
    grace = oban.options.shutdown_grace_period
    waiting = f"waiting up to {grace:g} s for {running_text(busy)}; Ctrl-C stops at once"
    announcer.tell(
        "oban.node.stopping",
        f"{signals.first.name}: stopping, {waiting if busy else 'nothing is running'}",
        signal=signals.first.name,
        shutdown_grace_period=grace,
        running=busy,
    )
    # A blocked loop may have heard of it late.
    left = max(0.0, signals.first_at + grace - time.monotonic())
    oban.options = replace(oban.options, shutdown_grace_period=left)
    oban.exiting = True  # so that jobs whose code ends with the process are given back as well
    await oban.stop()
    seconds = round(time.monotonic() - signals.first_at, 3)
    announcer.tell("oban.node.stop", f"stopped after {seconds:.1f} s", seconds=seconds)
