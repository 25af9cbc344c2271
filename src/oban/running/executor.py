"""Running one job: from a claimed row to the Ack that says how its attempt ended."""

import asyncio
import inspect
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, Final

from oban import telemetry
from oban.backoff import default_backoff
from oban.current import CURRENT
from oban.errors import InvalidJob, ObanError, ProcessDied, RaisedInProcess, UnknownWorker
from oban.fields import seconds
from oban.interrupt import is_interrupt
from oban.job import Job
from oban.lookup import WorkerFinder
from oban.outcome import Ack, Cancel, Discard, RateLimited, Record, Snooze
from oban.running.frames import workers_part
from oban.running.meter import Meter, waiting_time
from oban.running.places import Places
from oban.running.run import Run, StopReason
from oban.states import COMPLETED, JobState
from oban.text import bounded
from oban.vault import KEYLESS, Vault, is_sealed
from oban.worker import Definition
from oban.worker.execution import missed_deadline, timeout_of
from oban.worker.hooks import Hook
from oban.worker.layers import run_inside
from oban.worker.policy import Rule

#: Errors kept of a job that is snoozed by what it raised: nothing else ends it.
KEPT_SNOOZES: Final = 20
#: After so many tries on nodes that do not know its worker a job is discarded.
MAX_UNKNOWN: Final = 20
#: Seconds that an asynchronous `backoff` may take.
BACKOFF_PATIENCE: Final = 5.0


class Executor:
    """Executes runs. Total: whatever the worker does becomes an Ack. Never touches the database."""

    def __init__(
        self,
        finder: WorkerFinder,
        places: Places,
        hooks: Sequence[Hook] = (),
        vault: Vault = KEYLESS,
    ) -> None:
        self.finder = finder
        self.places = places
        #: What runs around every job.
        self.hooks = tuple(hooks)
        #: The keys to arguments that are encrypted.
        self.vault = vault
        #: Takes note of how long attempts take, while metrics are kept.
        self.meter: Meter | None = None

    async def execute(self, run: Run) -> Ack:
        """Run the job and return how it ended.

        Cancelling this is cancelling the job: asked for through `run`, it becomes an Ack; from
        outside it propagates.
        """
        ack, _ = await self.attempt(run)
        return ack

    async def attempt(self, run: Run) -> tuple[Ack, BaseException | None]:
        """The same, with what the job raised: `raise` shows a test where."""
        if run.job.meta and (missed := missed_deadline(run.job)):
            return too_late(run.job, missed), None
        if self.places.resources:
            run.job.resources = self.places.resources
        outer = CURRENT.get()
        CURRENT.set(run.job)
        started = time.monotonic_ns()
        announce_start(run.job, started)
        definition: Definition | None = None
        failure: Failure | None = None
        try:
            definition = self.find(run.job)
            ack = conclude(run.job, await self.call(definition, run))
        except RateLimited as asked:
            ack = conclude(run.job, asked)
        except asyncio.CancelledError as cancelled:
            if run.is_abandoned():
                raise
            failure = Failure(cancelled)
            ack = await self.fail(run, failure, definition)
            if run.stop is not None:
                failure = None  # stopped as somebody asked, it has not failed
        except BaseException as error:  # foreign code
            if is_interrupt(error):
                raise
            failure = Failure(error)
            if definition is None and isinstance(error, UnknownWorker):
                ack = unknown_worker(run.job, error)
            else:
                ack = await self.fail(run, failure, definition)
                if run.stop is not None and isinstance(error, ProcessDied):
                    failure = None  # so was this one, by killing its process
        finally:
            # Not by token: a coroutine that is left lying may be closed in another context.
            CURRENT.set(outer)
        if self.meter is not None:
            self.meter.note(run.job, ack.state, time.monotonic_ns() - started)
        announce_end(run.job, ack, failure, started)
        return ack, None if failure is None else failure.error

    def find(self, job: Job) -> Definition:
        if trouble := job.extra.get("unreadable"):
            raise InvalidJob(f"the row of this job cannot be used: {trouble}")
        return self.finder.find(job.worker)

    async def call(self, definition: Definition, run: Run) -> Any:
        if self.hooks or definition.hooks:
            hooks = (*self.hooks, *definition.hooks)
            on_thread = partial(self.places.on_thread, run)
            return await run_inside(hooks, run.job, partial(self.place, definition, run), on_thread)
        return await self.place(definition, run)

    async def place(self, definition: Definition, run: Run) -> Any:
        if run.overdue:  # since a hook before it took its time
            raise asyncio.CancelledError
        if not is_sealed(run.job.args):
            return await self.place_opened(definition, run)
        self.open(definition, run)
        outer = CURRENT.get()
        CURRENT.set(run.given)
        try:
            return await self.place_opened(definition, run)
        finally:
            CURRENT.set(outer)

    def open(self, definition: Definition, run: Run) -> None:
        """Decrypt the arguments for the code, also of a worker that is not encrypted any more."""
        if run.opened is None and is_sealed(run.job.args):
            try:
                run.opened = self.vault.open(run.job)
            except InvalidJob:
                if definition.encrypted:
                    raise

    async def place_opened(self, definition: Definition, run: Run) -> Any:
        timeout = timeout_of(run.job, definition.timeout) if run.job.meta else definition.timeout
        if definition.executor == "async" and timeout is None:
            return await definition.call(run.given)
        return await self.places.call(definition, run, timeout, self.finder)

    async def fail(self, run: Run, failure: "Failure", definition: Definition | None) -> Ack:
        """The Ack of an attempt that raised."""
        job = run.job
        if run.stop is StopReason.SHUTDOWN:
            return given_back(job)
        if run.stop is StopReason.CANCELLED:
            return acknowledge(job, JobState.CANCELLED, error=failure.text)
        rule = None
        if definition is not None and definition.policy:
            rule = definition.policy.rule_for(failure.error)
        match rule and rule.fate:
            case "cancel":
                return acknowledge(job, JobState.CANCELLED, error=failure.text)
            case "discard":
                return acknowledge(job, JobState.DISCARDED, error=failure.text)
            case "snooze":
                delay = await self.backoff(run, definition, failure.error, rule)
                is_known = count(job, "snoozed") >= KEPT_SNOOZES
                return snoozed(job, delay, error=None if is_known else failure.text)
        if job.attempt >= job.max_attempts:
            return failed(job, failure)
        return failed(job, failure, await self.backoff(run, definition, failure.error, rule))

    async def backoff(
        self, run: Run, definition: Definition | None, raised: BaseException, rule: Rule | None
    ) -> float:
        """Seconds until the next try: by the rule for what was raised, else the worker's own.

        The default wherever neither can be used.
        """
        job = run.job
        default = default_backoff(job.attempt, job.max_attempts)
        try:
            if definition is not None:
                with suppress(InvalidJob):  # that is what it failed with, as a rule
                    self.open(definition, run)
            if rule is not None and (chosen := rule.seconds(run.given, raised)) is not None:
                return chosen
            if definition is None or definition.backoff is None:
                return default
            given = definition.backoff(run.given)
            if inspect.isawaitable(given):
                async with asyncio.timeout(BACKOFF_PATIENCE):
                    given = await given
            delay = seconds("backoff", given)
            if delay < 0:
                raise InvalidJob(f"backoff is {delay}; it is 0 or more seconds")
        except BaseException as error:  # foreign code
            if is_interrupt(error):
                raise
            metadata = {"job": job, "delay": default, **telemetry.describe_error(error)}
            telemetry.execute("oban.job.bad_backoff", metadata)
            return default
        return delay


def conclude(job: Job, value: object) -> Ack:
    """What the worker's return value means."""
    match value:
        case Record():
            return acknowledge(
                job, JobState.COMPLETED, meta={"recorded": True, "return": value.encoded}
            )
        case Snooze():
            return snoozed(job, seconds("seconds", value.seconds), meta=value.meta or {})
        case RateLimited():
            slows = {"seconds": value.retry_after, "limit": value.limit}
            return snoozed(job, value.retry_after, slows=slows)
        case Cancel():
            return acknowledge(job, JobState.CANCELLED, error=reason(value.reason))
        case Discard():
            return acknowledge(job, JobState.DISCARDED, error=reason(value.reason))
        case _:
            return acknowledge(job, COMPLETED)


class Failure:
    """What a job raised, described once for all who tell of it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    @cached_property
    def told(self) -> telemetry.Metadata:
        if isinstance(self.error, RaisedInProcess):
            return dict(self.error.told)
        part = workers_part(self.error.__traceback__)
        if part is None and isinstance(self.error, ObanError | TimeoutError):
            self.error.__traceback__ = None  # we raised it, and the way to it tells nobody anything
        return telemetry.describe_error(self.error, since=part)

    @property
    def text(self) -> str:
        """The traceback, in a form that the database takes."""
        return bounded(str(self.told["traceback"]))


def failed(job: Job, failure: Failure, delay: float | None = None) -> Ack:
    """Retryable in `delay` seconds while attempts are left, else discarded."""
    if job.attempt >= job.max_attempts:
        return acknowledge(job, JobState.DISCARDED, error=failure.text)
    if delay is None:
        delay = default_backoff(job.attempt, job.max_attempts)
    return acknowledge(job, JobState.RETRYABLE, error=failure.text, delay=delay)


def snoozed(
    job: Job, delay: float, *, meta: Mapping[str, Any] = MappingProxyType({}), **details: Any
) -> Ack:
    """Runs again in `delay` seconds, and this attempt does not count."""
    noted = {**meta, "snoozed": count(job, "snoozed") + 1}
    return acknowledge(job, JobState.SCHEDULED, delay=delay, meta=noted, counted=False, **details)


def given_back(job: Job) -> Ack:
    """As if it had not been claimed."""
    return acknowledge(job, JobState.AVAILABLE, counted=False)


def never_begun(job: Job) -> Ack:
    """Cancelled before any of its code ran."""
    return acknowledge(job, JobState.CANCELLED, error="cancelled before it began")


def too_late(job: Job, deadline: datetime) -> Ack:
    """Cancelled, since it was to begin earlier or not at all."""
    telemetry.execute("oban.job.deadline", {"job": job, "deadline": deadline})
    return acknowledge(job, JobState.CANCELLED, error=f"its deadline was {deadline.isoformat()}")


def unknown_worker(job: Job, error: UnknownWorker) -> Ack:
    """Back to the table uncounted: during a deployment another node may know the worker."""
    tries = count(job, "unknown_worker") + 1
    given_up = tries >= MAX_UNKNOWN
    return acknowledge(
        job,
        JobState.DISCARDED if given_up else JobState.SCHEDULED,
        error=bounded(str(error)),
        delay=None if given_up else default_backoff(tries, MAX_UNKNOWN),
        meta={"unknown_worker": tries},
        counted=False,
    )


def acknowledge(job: Job, state: JobState, **details: Any) -> Ack:
    assert job.id is not None
    return Ack(job.id, job.attempt, state, **details)


def count(job: Job, name: str) -> int:
    """A counter in meta, which may be and hold anything when somebody else wrote it."""
    meta: object = job.meta
    value = meta.get(name) if isinstance(meta, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def reason(given: object) -> str:
    if given is None:
        return "no reason given"
    return bounded(given if isinstance(given, str) else repr(given))


def announce_start(job: Job, started: int) -> None:
    if telemetry.listening("oban.job.start"):
        telemetry.execute("oban.job.start", {"job": job, "monotonic_time": started})


def announce_end(job: Job, ack: Ack, failure: Failure | None, started: int) -> None:
    name = "oban.job.stop" if failure is None else "oban.job.exception"
    if not telemetry.listening(name):
        return
    now = time.monotonic_ns()
    metadata = {
        "job": job,
        "state": ack.state,
        "duration": now - started,
        "queue_time": queue_time(job),
        "monotonic_time": now,
    }
    if failure is not None:
        metadata |= failure.told
    telemetry.execute(name, metadata)


def queue_time(job: Job) -> int:
    """Nanoseconds between the moment the job was due and its claim, by the database's clock."""
    return max(0, waiting_time(job.scheduled_at, job.attempted_at))
