"""How the code of a job runs inside its hooks, each a layer around the next."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from oban import telemetry
from oban.callables import is_async
from oban.interrupt import is_interrupt
from oban.job import Job
from oban.outcome import Cancel, Discard, RateLimited, Record, Snooze
from oban.vault import STORED
from oban.worker.hooks import Hook

#: What `before_process` may return to end the attempt without its code, as the code itself may.
OUTCOMES: Final = (Record, Snooze, Cancel, Discard, RateLimited)
#: Runs a function on a thread, and waits for it whatever comes.
OnThread = Callable[[Callable[[], Any]], Awaitable[Any]]


async def run_inside(
    hooks: Sequence[Hook],
    job: Job,
    process: Callable[[], Awaitable[Any]],
    on_thread: OnThread,
) -> Any:
    """What the job's code comes to inside these hooks, the first outermost."""
    for hook in reversed(hooks):
        process = partial(layer, hook, job, process, on_thread)
    return await process()


async def layer(
    hook: Hook, job: Job, call_next: Callable[[], Awaitable[Any]], on_thread: OnThread
) -> Any:
    """What `call_next` comes to inside this hook. What comes after the work changes nothing."""
    try:
        result = None
        if hook.before_process is not None:
            result = await called(hook.before_process, on_thread, job)
        if not isinstance(result, OUTCOMES):
            result = await (call_next() if hook.around is None else hook.around(job, call_next))
    except RateLimited as asked:
        await told(hook, "after_process", on_thread, job, asked)
        raise
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        if not is_interrupt(error):
            await told(hook, "on_error", on_thread, job, error)
        raise
    await told(hook, "after_process", on_thread, job, result)
    return result


async def called(function: Callable[..., Any], on_thread: OnThread, *arguments: object) -> Any:
    if is_async(function):
        return await function(*arguments)
    value = await on_thread(partial(function, *arguments))
    return await value if inspect.isawaitable(value) else value


async def told(hook: Hook, name: str, on_thread: OnThread, job: Job, what: object) -> None:
    """Call a hook that changes nothing any more, whatever comes of it."""
    function = getattr(hook, name)
    if function is None:
        return
    try:
        await called(function, on_thread, job, what)
    except BaseException as error:  # foreign code, after the work is done
        if is_interrupt(error):
            raise
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
            raise
        tell_failed(job, name, error)


def tell_failed(job: Job, name: str, error: BaseException) -> None:
    # Others see what is stored, not what was decrypted for the code.
    metadata = {"job": job.extra.get(STORED, job), "hook": name, **telemetry.describe_error(error)}
    telemetry.execute("oban.job.hook_failed", metadata)


def hooked(cls: type, *, of_async: bool) -> Callable[[Job], Any]:
    """Runs a job of a class with hooks of its own: where its code does, on the same instance."""
    if of_async:

        async def call(job: Job) -> Any:
            worker = cls()
            return await layer(Hook.of(worker), job, partial(worker.process, job), here)

        return call
    return partial(layer_sync, cls)


async def here(function: Callable[[], Any]) -> Any:
    return function()


def layer_sync(cls: type, job: Job) -> Any:
    """As `layer`, all of it on the thread that calls this."""
    worker = cls()
    hook = Hook.of(worker)
    process = partial(worker.process, job)
    try:
        result = None if hook.before_process is None else hook.before_process(job)
        if not isinstance(result, OUTCOMES):
            result = process() if hook.around is None else hook.around(job, process)
    except RateLimited as asked:
        told_sync(hook, "after_process", job, asked)
        raise
    except BaseException as error:
        told_sync(hook, "on_error", job, error)
        raise
    told_sync(hook, "after_process", job, result)
    return result


def told_sync(hook: Hook, name: str, job: Job, what: object) -> None:
    function = getattr(hook, name)
    if function is None:
        return
    try:
        function(job, what)
    except BaseException as error:  # noqa: BLE001  # foreign code, after the work is done
        tell_failed(job, name, error)
