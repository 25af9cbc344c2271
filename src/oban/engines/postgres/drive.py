"""Carrying out an operation over a link: the only place where steps meet a connection."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tenacity import (
    AsyncRetrying,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from oban.engines.postgres.connections import AsyncLink, SyncLink
from oban.engines.postgres.faults import BUSY, LOCK_TIMEOUT, ended_by_server
from oban.engines.postgres.statements import PostgresOperation
from oban.errors import Contended, UniqueKeyBusy

T = TypeVar("T")

#: How often something is tried again, and after what waits.
FIRST_WAIT: Final = 0.02
STOP: Final = stop_after_attempt(5)
WAIT: Final = wait_random_exponential(multiplier=0.05, max=1.0)


async def drive(operation: PostgresOperation[T], link: AsyncLink) -> T:
    if not operation.transactional:
        return await step_through(operation, link)
    async with link.transaction():
        return await step_through(operation, link)


async def step_through(operation: PostgresOperation[T], link: AsyncLink) -> T:
    steps = operation.steps()
    try:
        statement = next(steps)
        while True:
            statement = steps.send(await link.fetch(statement))
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # what the generator returns is a T
    except Exception as error:
        note_keys(operation, error)
        raise


def drive_sync(operation: PostgresOperation[T], link: SyncLink) -> T:
    if not operation.transactional:
        return step_through_sync(operation, link)
    with link.transaction():
        return step_through_sync(operation, link)


def step_through_sync(operation: PostgresOperation[T], link: SyncLink) -> T:
    steps = operation.steps()
    try:
        statement = next(steps)
        while True:
            statement = steps.send(link.fetch(statement))
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # as above
    except Exception as error:
        note_keys(operation, error)
        raise


def note_keys(operation: PostgresOperation[T], error: Exception) -> None:
    """Over a connection of the caller's he gets his driver's own error, and a note in it."""
    driver_error = getattr(error, "orig", error)  # SQLAlchemy wraps it
    state = getattr(driver_error, "sqlstate", None) or getattr(driver_error, "pgcode", None)
    if operation.unique_keys and state == LOCK_TIMEOUT:
        error.add_note(f"{operation.unique_keys()}: {BUSY}")


def gave_way(error: BaseException) -> bool:
    """Whether to try again: others were in the way, and it is not known for how long they are."""
    return isinstance(error, Contended) and not isinstance(error, UniqueKeyBusy)


def gave_way_or_ended(error: BaseException) -> bool:
    """The same on a connection from a pool, whose session the server may have ended just before."""
    return gave_way(error) or ended_by_server(error)


async def with_retries(
    attempt: Callable[[], Awaitable[T]], reason: Callable[[BaseException], bool] = gave_way
) -> T:
    """The first try is made without ceremony: it is the only one nearly always."""
    try:
        return await attempt()
    except Exception as error:
        if not reason(error):
            raise
    await asyncio.sleep(FIRST_WAIT)
    async for another in AsyncRetrying(
        retry=retry_if_exception(reason), stop=STOP, wait=WAIT, reraise=True
    ):
        with another:
            return await attempt()
    raise AssertionError("retrying ends by returning or raising")


def with_retries_sync(
    attempt: Callable[[], T], reason: Callable[[BaseException], bool] = gave_way
) -> T:
    try:
        return attempt()
    except Exception as error:
        if not reason(error):
            raise
    time.sleep(FIRST_WAIT)
    retrying = Retrying(retry=retry_if_exception(reason), stop=STOP, wait=WAIT, reraise=True)
    return retrying(attempt)
