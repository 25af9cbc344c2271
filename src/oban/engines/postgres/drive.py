"""Carrying out an operation over a link: the only place where steps meet a connection."""

from typing import Final, TypeVar

from tenacity import (
    AsyncRetrying,
    Retrying,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)
from tenacity.retry import retry_base

from oban.engines.postgres.connections import AsyncLink, SyncLink
from oban.engines.postgres.faults import ended_by_server
from oban.engines.postgres.statements import PostgresOperation
from oban.errors import Contended

T = TypeVar("T")

#: When to try again: the statement gave way to others; or, on a connection from a pool, the server
#: had ended the session just before.
GAVE_WAY: Final = retry_if_exception_type(Contended)
POOLED: Final = GAVE_WAY | retry_if_exception(ended_by_server)
#: How often, and after what waits.
STOP: Final = stop_after_attempt(6)
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


def retrying(reason: retry_base = GAVE_WAY) -> AsyncRetrying:
    return AsyncRetrying(retry=reason, stop=STOP, wait=WAIT, reraise=True)


def retrying_sync(reason: retry_base = GAVE_WAY) -> Retrying:
    return Retrying(retry=reason, stop=STOP, wait=WAIT, reraise=True)
