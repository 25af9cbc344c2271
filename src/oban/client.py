"""Enqueueing and managing jobs: what works with or without queues, from async and sync code."""

import asyncio
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import suppress
from itertools import islice
from typing import Any, Final

from oban import instances, telemetry
from oban.bell import Bell
from oban.engines.base import Engine
from oban.engines.blocking import refuse_inside_loop
from oban.engines.jobs import Retried
from oban.engines.operation import Operation
from oban.enqueueing import Enqueueing
from oban.errors import InvalidJob
from oban.job import Job, check_again, clean_changes
from oban.reading import JobOrId, Reader, ids_of
from oban.running.executor import Executor
from oban.running.inline import run_inline
from oban.sharing import Sharing
from oban.worker import private_workers, require_importable

Changes = Mapping[str, Any] | Callable[[Job], Mapping[str, Any]]

STREAM_BATCH: Final = 5_000
#: Seconds that an insert over a connection of ours waits for a unique key that another transaction
#: has: it keeps a connection of the pool meanwhile.
PATIENCE: Final = 10.0
#: Jobs that are built without a look at the event loop.
STREAM_SLICE: Final = 250
#: What writing a job raises that holds what cannot be written.
UNWRITABLE: Final = (TypeError, ValueError, AttributeError, RecursionError)


class Client(Reader):
    """Each call is one transaction, or part of the caller's when `conn` is given.

    `conn` takes a psycopg or SQLAlchemy connection or session: an async one where the call is
    awaited, a sync one in the `_sync` forms. Those work from any thread without a running event
    loop, before `start()`, and in programs that have no loop at all.
    """

    def __init__(self, name: str, engine: Engine, executor: Executor) -> None:
        super().__init__(name, engine)
        self.executor = executor
        self.sharing = Sharing(self.insert)
        self.bell = Bell(self.ring)

    # Enqueue

    async def enqueue(self, job: Job, *, conn: object = None, notify: bool = True) -> Job:
        """Insert a job and return it with the database's values.

        Raises `OutcomeUnknown` when the connection broke before the answer came. `notify=False`
        saves the notification: the job starts when a node next looks by itself. Without `conn`,
        calls that come at the same time share a statement.
        """
        if conn is not None or is_inline():
            (inserted,) = await self.enqueue_many(require_job(job), conn=conn, notify=notify)
            return inserted
        refuse_unimportable([require_job(job)])
        with Enqueueing(self.sealed([job])) as under_way:  # sealed: its handlers see what is stored
            (job,) = under_way.jobs
            if job.unique is not None:  # which may have to wait for its key: others need not
                return under_way.end(await self.insert([job], notify))[0]
            return under_way.end([await self.sharing.enqueue(job, notify=notify)])[0]

    def as_told(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """As others are told of them: as they will be stored, but for those that run at once."""
        return jobs if is_inline() else self.sealed(jobs)

    def sealed(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """As they are to be stored. Raises InvalidJob where a key is missing for that."""
        return self.executor.vault.seal(jobs, private_workers())

    async def insert(self, jobs: Sequence[Job], notify: bool) -> list[Job]:
        """Insert over a connection of our own, which may tell the nodes a moment later."""
        is_told = notify and self.bell.is_due(jobs)
        try:
            operation = self.engine.insert(jobs, notify=is_told, patience=PATIENCE)
        except UNWRITABLE as error:
            raise unwritable(jobs, error) from error
        inserted = await self.engine.execute(operation)
        if notify and not is_told:
            self.bell.inserted(jobs)
        return inserted

    async def ring(self, queues: Sequence[str]) -> None:
        await self.sharing.run_between(lambda: self.engine.execute(self.engine.ring(queues)))

    async def enqueue_many(
        self, *jobs: Job | Iterable[Job], conn: object = None, notify: bool = True
    ) -> list[Job]:
        """Insert all jobs or none; return them in order with the database's values."""
        wanted = flatten(jobs)
        if not wanted and conn is None:
            return []
        with Enqueueing(self.as_told(wanted)) as under_way:
            if is_inline():
                return under_way.end(await self.run_inline(under_way.jobs))
            operation = self.insertion(under_way.jobs, notify, conn)
            return under_way.end(await self.engine.execute(operation, conn))

    async def enqueue_stream(
        self, jobs: Iterable[Job] | AsyncIterable[Job], *, notify: bool = True
    ) -> int:
        """Insert any number of jobs in constant memory; return how many.

        Every batch of 5,000 is a transaction of its own: when one fails, those before it stay,
        and the error carries their number in a note. While one is inserted the next is built.
        """
        with Enqueueing(()) as under_way:
            stream = Stream(lambda batch: self.pour(batch, under_way, notify=notify))
            try:
                async for batch in batches(jobs):
                    await stream.send(batch)
                await stream.end()
            except Exception as error:
                with suppress(Exception):  # the first failure is the one to tell
                    await stream.end()
                error.add_note(f"{stream.count} jobs of the stream had been inserted before")
                raise
            finally:
                await stream.cancel()
            return under_way.end_stream(stream.count)

    def pour(
        self, jobs: Sequence[Job], under_way: Enqueueing, *, notify: bool
    ) -> Coroutine[Any, Any, int]:
        """Insert a batch, which is checked and written as text by the time this returns."""
        wanted = under_way.carrying(flatten(jobs))
        if is_inline():
            return self.pour_inline(wanted)
        refuse_unimportable(wanted)
        wanted = self.sealed(wanted)
        try:
            operation = self.engine.pour(wanted, notify=notify, patience=PATIENCE)
        except UNWRITABLE as error:
            raise unwritable(wanted, error) from error
        return self.engine.execute(operation)

    async def pour_inline(self, jobs: Sequence[Job]) -> int:
        return len(await self.run_inline(jobs))

    def enqueue_sync(self, job: Job, *, conn: object = None, notify: bool = True) -> Job:
        (inserted,) = self.enqueue_many_sync(require_job(job), conn=conn, notify=notify)
        return inserted

    def enqueue_many_sync(
        self, *jobs: Job | Iterable[Job], conn: object = None, notify: bool = True
    ) -> list[Job]:
        wanted = flatten(jobs)
        if not wanted and conn is None:
            return []
        with Enqueueing(self.as_told(wanted)) as under_way:
            if is_inline():
                return under_way.end(self.run_inline_sync(under_way.jobs))
            operation = self.insertion(under_way.jobs, notify, conn)
            return under_way.end(self.engine.execute_sync(operation, conn))

    def insertion(
        self, jobs: Sequence[Job], notify: bool, conn: object = None
    ) -> Operation[list[Job]]:
        refuse_unimportable(jobs)
        jobs = self.sealed(jobs)
        # In a transaction of the caller's it is his to say how long is waited.
        patience = PATIENCE if conn is None else None
        try:
            return self.engine.insert(jobs, notify=notify, patience=patience)
        except UNWRITABLE as error:
            raise unwritable(jobs, error) from error

    # Inline: run where it is enqueued, see `oban.testing.mode`

    async def run_inline(self, jobs: Iterable[Job]) -> list[Job]:
        return [await run_inline(self.executor, job) for job in jobs]

    def run_inline_sync(self, jobs: Iterable[Job]) -> list[Job]:
        refuse_inside_loop()
        return asyncio.run(self.run_inline(jobs))

    # Cancel, retry, delete: each says whether, or how many, jobs changed

    async def cancel_job(self, job: JobOrId, *, conn: object = None) -> bool:
        """Cancel a job that is not finished; one that runs is asked to stop."""
        return bool(await self.cancel_many_jobs([job], conn=conn))

    async def cancel_many_jobs(self, jobs: Iterable[JobOrId], *, conn: object = None) -> int:
        return len(await self.engine.execute(self.engine.cancel(ids_of(jobs)), conn))

    def cancel_job_sync(self, job: JobOrId, *, conn: object = None) -> bool:
        return bool(self.cancel_many_jobs_sync([job], conn=conn))

    def cancel_many_jobs_sync(self, jobs: Iterable[JobOrId], *, conn: object = None) -> int:
        return len(self.engine.execute_sync(self.engine.cancel(ids_of(jobs)), conn))

    async def retry_job(self, job: JobOrId, *, conn: object = None) -> bool:
        """Make a job that is not running available now, with at least one attempt left.

        Not where a job like it has taken its unique key meanwhile: that is an event as well.
        """
        return bool(await self.retry_many_jobs([job], conn=conn))

    async def retry_many_jobs(self, jobs: Iterable[JobOrId], *, conn: object = None) -> int:
        return tell_retried(await self.engine.execute(self.engine.retry(ids_of(jobs)), conn))

    def retry_job_sync(self, job: JobOrId, *, conn: object = None) -> bool:
        return bool(self.retry_many_jobs_sync([job], conn=conn))

    def retry_many_jobs_sync(self, jobs: Iterable[JobOrId], *, conn: object = None) -> int:
        return tell_retried(self.engine.execute_sync(self.engine.retry(ids_of(jobs)), conn))

    async def delete_job(self, job: JobOrId, *, conn: object = None) -> bool:
        """Delete a job that is not running."""
        return bool(await self.delete_many_jobs([job], conn=conn))

    async def delete_many_jobs(self, jobs: Iterable[JobOrId], *, conn: object = None) -> int:
        return len(await self.engine.execute(self.engine.delete(ids_of(jobs)), conn))

    def delete_job_sync(self, job: JobOrId, *, conn: object = None) -> bool:
        return bool(self.delete_many_jobs_sync([job], conn=conn))

    def delete_many_jobs_sync(self, jobs: Iterable[JobOrId], *, conn: object = None) -> int:
        return len(self.engine.execute_sync(self.engine.delete(ids_of(jobs)), conn))

    # Update

    async def update_job(
        self, job: JobOrId, changes: Changes, *, conn: object = None
    ) -> Job | None:
        """Change a job and return it, None when it is gone.

        `changes` is a dict, or a function that is given the job as it is in the table and returns
        one; nobody else can change the job in between. A new `scheduled_at` moves an available or
        scheduled job to what the new time means.
        """
        updated = await self.update_many_jobs([job], changes, conn=conn)
        return updated[0] if updated else None

    def change_function(self, changes: Changes) -> Callable[[Job], Mapping[str, Any]]:
        if not callable(changes):
            # A mistake is found before anything is locked; one in arguments that may be secret
            # once it is known whether they are.
            clean_changes({name: each for name, each in changes.items() if name != "args"})

        def changed(job: Job) -> Mapping[str, Any]:
            given = changes(job) if callable(changes) else changes
            return self.executor.vault.changed(job, given, private_workers())

        return changed

    async def update_many_jobs(
        self, jobs: Iterable[JobOrId], changes: Changes, *, conn: object = None
    ) -> list[Job]:
        operation = self.engine.update(ids_of(jobs), self.change_function(changes))
        return await self.engine.execute(operation, conn)

    def update_job_sync(self, job: JobOrId, changes: Changes, *, conn: object = None) -> Job | None:
        updated = self.update_many_jobs_sync([job], changes, conn=conn)
        return updated[0] if updated else None

    def update_many_jobs_sync(
        self, jobs: Iterable[JobOrId], changes: Changes, *, conn: object = None
    ) -> list[Job]:
        operation = self.engine.update(ids_of(jobs), self.change_function(changes))
        return self.engine.execute_sync(operation, conn)


class Stream:
    """One batch on its way at a time, while the caller builds the next."""

    def __init__(self, send: Callable[[Sequence[Job]], Coroutine[Any, Any, int]]) -> None:
        self.start = send
        self.count = 0
        self.sent: asyncio.Task[int] | None = None

    async def send(self, batch: Sequence[Job]) -> None:
        """Send a batch once the one before it is inserted."""
        sending = self.start(batch)
        try:
            await self.end()
        except BaseException:
            sending.close()
            raise
        self.sent = asyncio.create_task(sending)
        await asyncio.sleep(0)  # it leaves now, not when the next is built

    async def end(self) -> None:
        """Wait for what is on its way, and count it."""
        if self.sent is not None:
            self.count += await self.sent
            self.sent = None

    async def cancel(self) -> None:
        """End what is on its way, and wait until it has."""
        if self.sent is not None:
            self.sent.cancel()
            await asyncio.wait([self.sent])
            if not self.sent.cancelled():
                self.sent.exception()  # it has its error to itself: the caller is told his own


def tell_retried(retried: Retried) -> int:
    """How many; each that was refused for its like is an event."""
    for job_id in retried.conflicted:
        telemetry.execute("oban.job.retry_conflict", {"job_id": job_id})
    return len(retried.ids)


def refuse_unimportable(jobs: Iterable[Job]) -> None:
    for worker in {job.worker for job in jobs}:
        require_importable(worker)


def unwritable(jobs: Iterable[Job], error: Exception) -> InvalidJob:
    """What is wrong with jobs that cannot be written: one was changed after it was checked."""
    try:
        for job in jobs:
            check_again(job)
    except InvalidJob as found:
        return found
    return error if isinstance(error, InvalidJob) else InvalidJob(f"it cannot be written: {error}")


def is_inline() -> bool:
    return instances.testing_mode() == "inline"


def flatten(jobs: Iterable[Job | Iterable[Job]]) -> list[Job]:
    """`enqueue_many` takes jobs one by one, or any iterables of them."""
    found: list[Job] = []
    for each in jobs:
        if isinstance(each, Iterable):
            found.extend(map(require_job, each))
        else:
            found.append(require_job(each))
    return found


def require_job(job: object) -> Job:
    if not isinstance(job, Job):
        raise InvalidJob(f"got {job!r:.80}; jobs are made by `new`, as in MyWorker.new({{}})")
    return job


async def batches(jobs: Iterable[Job] | AsyncIterable[Job]) -> AsyncIterator[list[Job]]:
    if isinstance(jobs, AsyncIterable):
        batch: list[Job] = []
        async for job in jobs:
            batch.append(job)
            if len(batch) == STREAM_BATCH:
                yield batch
                batch = []
        if batch:
            yield batch
        return
    source = iter(jobs)
    while batch := list(islice(source, STREAM_SLICE)):
        while len(batch) < STREAM_BATCH and (more := list(islice(source, STREAM_SLICE))):
            batch += more
            await asyncio.sleep(0)  # what is on its way moves on
        yield batch
