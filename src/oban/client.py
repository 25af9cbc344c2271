"""Enqueueing and managing jobs: what works with or without queues, from async and sync code."""

import asyncio
import time
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
from oban.engines.base import Engine, Operation
from oban.engines.blocking import refuse_inside_loop
from oban.engines.values import JobFilter, MetricFilter, Retried, ToldStack
from oban.errors import InvalidJob, InvalidOption
from oban.explaining import explain
from oban.explanation import Explanation
from oban.job import Job, check_again, clean_changes
from oban.metrics import Scale, Series, Stat, clean_dimension, clean_seconds, path_of
from oban.running.executor import Executor
from oban.running.inline import run_inline
from oban.sharing import Sharing
from oban.worker import private_workers, require_importable

JobOrId = Job | int
Changes = Mapping[str, Any] | Callable[[Job], Mapping[str, Any]]

STREAM_BATCH: Final = 5_000
#: Seconds that an insert over a connection of ours waits for a unique key that another transaction
#: has: it keeps a connection of the pool meanwhile.
PATIENCE: Final = 10.0
#: Seconds between two looks for an answer of a node.
STACK_PAUSE: Final = 0.05
#: Jobs that are built without a look at the event loop.
STREAM_SLICE: Final = 250
#: Groups that are told of at most, unless more are asked for.
MOST_SERIES: Final = 20
MOST_STATS: Final = 50
#: Seconds that reading the table for a report may take.
STATS_PATIENCE: Final = 30.0
FOREVER: Final = 36_500 * 86_400
#: What writing a job raises that holds what cannot be written.
UNWRITABLE: Final = (TypeError, ValueError, AttributeError, RecursionError)


class Client:
    """Each call is one transaction, or part of the caller's when `conn` is given.

    `conn` takes a psycopg or SQLAlchemy connection or session: an async one where the call is
    awaited, a sync one in the `_sync` forms. Those work from any thread without a running event
    loop, before `start()`, and in programs that have no loop at all.
    """

    def __init__(self, name: str, engine: Engine, executor: Executor) -> None:
        self.name = name
        self.engine = engine
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
        (job,) = self.sealed([job])
        if job.unique is not None:  # which may have to wait for its key: others need not
            return (await self.insert([job], notify))[0]
        return await self.sharing.enqueue(job, notify=notify)

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
        if is_inline():
            return await self.run_inline(wanted)
        if not wanted and conn is None:
            return []
        return await self.engine.execute(self.insertion(wanted, notify, conn), conn)

    async def enqueue_stream(
        self, jobs: Iterable[Job] | AsyncIterable[Job], *, notify: bool = True
    ) -> int:
        """Insert any number of jobs in constant memory; return how many.

        Every batch of 5,000 is a transaction of its own: when one fails, those before it stay,
        and the error carries their number in a note. While one is inserted the next is built.
        """
        stream = Stream(lambda batch: self.pour(batch, notify=notify))
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
        return stream.count

    def pour(self, jobs: Sequence[Job], *, notify: bool) -> Coroutine[Any, Any, int]:
        """Insert a batch, which is checked and written as text by the time this returns."""
        wanted: Sequence[Job] = flatten(jobs)
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
        if is_inline():
            return self.run_inline_sync(wanted)
        if not wanted and conn is None:
            return []
        return self.engine.execute_sync(self.insertion(wanted, notify, conn), conn)

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

    # Read

    async def get_job(self, job: JobOrId, *, conn: object = None) -> Job | None:
        """The job as it is now, None when there is none of that id."""
        found = await self.engine.execute(self.engine.get([id_of(job)]), conn)
        return found[0] if found else None

    def get_job_sync(self, job: JobOrId, *, conn: object = None) -> Job | None:
        found = self.engine.execute_sync(self.engine.get([id_of(job)]), conn)
        return found[0] if found else None

    async def list_jobs(self, wanted: JobFilter, *, conn: object = None) -> list[Job]:
        """The jobs that pass the filter, newest first."""
        return await self.engine.execute(self.engine.search(wanted), conn)

    # Metrics

    async def metrics(
        self,
        by: str = "state",
        *,
        since: float = 3_600.0,
        step: float | None = None,
        queue: str | None = None,
        worker: str | None = None,
        node: str | None = None,
        state: str | None = None,
        limit: int = MOST_SERIES,
    ) -> list[Series]:
        """What ended in the last `since` seconds, as it was kept: by state, queue, worker or node.

        In steps of so many seconds, or as fine as makes up to 200 points. Of more than `limit`
        groups the rest is one, `*`.
        """
        scale = Scale.of(since, step)
        wanted = MetricFilter(queue, worker, node, state, clean_limit(limit))
        return await self.engine.execute(self.engine.metrics(clean_dimension(by), scale, wanted))

    async def stats(
        self,
        by: str = "worker",
        *,
        since: float | None = None,
        queue: str | None = None,
        worker: str | None = None,
        node: str | None = None,
        state: str | None = None,
        limit: int = MOST_STATS,
        timeout: float = STATS_PATIENCE,
    ) -> list[Stat]:
        """The jobs in the table by worker, queue, node, state, or a path such as `args.tenant_id`.

        The `limit` groups with most jobs; with `since`, of jobs inserted in so many last seconds.
        Reads the whole table, and raises `TooSlow` where that takes longer than `timeout` seconds.
        """
        if since is not None:
            since = clean_seconds("since", since, least=0, most=FOREVER)
        patience = clean_seconds("timeout", timeout, least=0.001, most=86_400)
        wanted = MetricFilter(queue, worker, node, state, clean_limit(limit))
        return await self.engine.execute(self.engine.stats(path_of(by), since, wanted, patience))

    async def job_stack(self, job: JobOrId, *, patience: float = 2.0) -> ToldStack | None:
        """Where the code of a running job is just now, as its node tells.

        None where nobody tells within `patience` seconds: it does not run, or its node hears no
        notifications.
        """
        job_id = id_of(job)
        asked_at = await self.engine.execute(self.engine.ask_stack(job_id))
        ends = time.monotonic() + patience
        while True:
            told = await self.engine.execute(self.engine.told_stack(job_id))
            if told is not None and told.told_at >= asked_at:
                return told
            if time.monotonic() >= ends:
                return None
            await asyncio.sleep(STACK_PAUSE)

    async def explain(self, job: JobOrId, *, conn: object = None) -> Explanation | None:
        """Why the job does not run, or ended as it did; None when there is none of that id."""
        facts = await self.engine.execute(self.engine.explain(id_of(job)), conn)
        return explain(facts) if facts else None

    def explain_sync(self, job: JobOrId, *, conn: object = None) -> Explanation | None:
        facts = self.engine.execute_sync(self.engine.explain(id_of(job)), conn)
        return explain(facts) if facts else None

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


def clean_limit(limit: object) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST_GROUPS:
        raise InvalidOption(f"limit is {limit!r:.80}; it is a whole number from 1 to {MOST_GROUPS}")
    return limit


MOST_GROUPS: Final = 10_000


def id_of(job: JobOrId) -> int:
    identity = job.id if isinstance(job, Job) else job
    if isinstance(identity, bool) or not isinstance(identity, int):
        raise InvalidJob(f"got {job!r:.80}; a job is named by its id, or by a job that has one")
    return identity


def ids_of(jobs: Iterable[JobOrId]) -> list[int]:
    return [id_of(job) for job in jobs]
