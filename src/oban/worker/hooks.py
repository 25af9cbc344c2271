"""What runs around jobs: before, after, when one fails, or all around it.

Hooks lie around each other like the layers of an onion: those of an `Oban` outermost, then those
given to the worker's decorator, each in the order given, and innermost the methods of the worker
itself. The layer of one hook is, from the outside in: `before_process`, then `around`, and within
that the next layer. On the way out comes `after_process`, or `on_error` if something was raised.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, Final, Self

from oban import telemetry
from oban.errors import InvalidOption
from oban.job import Job
from oban.outcome import Cancel, Discard, RateLimited, Record, Snooze
from oban.vault import STORED

#: What `before_process` may return to end the attempt without its code, as the code itself may.
OUTCOMES: Final = (Record, Snooze, Cancel, Discard, RateLimited)

#: The arguments of each hook, as they are shown in messages.
SHAPES: Final = {
    "before_process": ("job",),
    "after_process": ("job", "result"),
    "on_error": ("job", "error"),
    "around": ("job", "call_next"),
}
ACCEPTED: Final = (
    f"an object with methods named {', '.join(SHAPES)}, one or more, such as one of a subclass of "
    "oban.Hooks"
)


class Hooks:
    """A base for hooks: a subclass has those it overrides, `async def` or `def`, and no others.

    An `async def` runs on the event loop. A `def` runs on a thread, so that it blocks nothing; what
    it sets in context variables ends with it.
    """

    def before_process(self, job: Job, /) -> Any:
        """Before the job's code. What it raises fails the attempt, and the code does not run.

        Nor does it if this returns what ends an attempt: `Record`, `Snooze`, `Cancel`, `Discard` or
        `RateLimited`.
        """

    def after_process(self, job: Job, result: Any, /) -> Any:
        """After it has returned, before that is saved. What this returns or raises changes nothing.

        What it raises is told by the event `oban.job.hook_failed`.
        """

    def on_error(self, job: Job, error: BaseException, /) -> Any:
        """After it has raised. What this returns or raises changes nothing, as with the above.

        Not called for a job that is stopped, since that has not failed.
        """

    def around(self, job: Job, call_next: Callable[[], Awaitable[Any]], /) -> Any:
        """All around it, `async def`: `return await call_next()` goes on, and may be left out.

        What this returns is the result; what it raises fails the attempt.
        """


@dataclass(frozen=True, slots=True)
class Hook:
    """One of them, as it is called."""

    before_process: Callable[..., Any] | None = None
    after_process: Callable[..., Any] | None = None
    on_error: Callable[..., Any] | None = None
    around: Callable[..., Any] | None = None

    @classmethod
    def of(cls, owner: object) -> Self:
        """What `owner` has of hooks; those that it inherits from `Hooks` are none."""
        found = {}
        for name in SHAPES:
            method = getattr(owner, name, None)
            if callable(method) and getattr(method, "__func__", None) is not vars(Hooks)[name]:
                found[name] = method
        return cls(**found)

    @property
    def names(self) -> list[str]:
        return [name for name in SHAPES if getattr(self, name) is not None]


def clean_hooks(option: str, given: object) -> tuple[Hook, ...]:
    """The hooks in an option, in order. Raises InvalidOption for what has none that fits."""
    if given is None:
        return ()
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidOption(f"{option} is {given!r:.80}; it is a list, each {ACCEPTED}")
    found = []
    for each in given:
        owner = imported(option, each) if isinstance(each, str) else each
        hook = Hook.of(owner)
        if inspect.isclass(owner) or not hook.names:
            made = f"; give an object, {owner.__name__}()" if inspect.isclass(owner) else ""
            raise InvalidOption(f"{option} holds {owner!r:.80}; it is {ACCEPTED}{made}")
        for name in hook.names:
            check_shape(f"{type(owner).__qualname__}.{name}", name, getattr(hook, name))
        if hook.around is not None and not is_async(hook.around):
            raise InvalidOption(
                f"{type(owner).__qualname__}.around is `def`; it is `async def around(self, job, "
                "call_next)`, which awaits call_next()"
            )
        found.append(hook)
    return tuple(found)


def imported(option: str, name: str) -> object:
    """The object at `module:object`, as a configuration names it."""
    module, colon, attribute = name.partition(":")
    try:
        if not colon:
            raise InvalidOption(f"{option} names {name!r}; it is written module:object")
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InvalidOption(f"{option} names {name!r}: {error}") from error


def check_shape(path: str, name: str, method: Callable[..., Any]) -> None:
    shape = SHAPES[name]
    try:
        inspect.signature(method).bind(*shape)
    except ValueError:
        pass  # written in C, with no signature to look at
    except TypeError as error:
        raise InvalidOption(
            f"{path} cannot be called: {error}. A method of this name is a hook, and takes "
            f"({', '.join(shape)}); give it another name if it is none"
        ) from None


def is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(inspect.unwrap(function))


# Carrying them out


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
    try:
        result = None
        if hook.before_process is not None:
            result = await called(hook.before_process, on_thread, job)
        if not isinstance(result, OUTCOMES):
            result = await (call_next() if hook.around is None else hook.around(job, call_next))
    except RateLimited as asked:
        await told(hook, "after_process", on_thread, job, asked)
        raise
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise
    except BaseException as error:
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
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # foreign code, after the work is done
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
            raise
        tell_failed(job, name, error)


def tell_failed(job: Job, name: str, error: BaseException) -> None:
    # Others see what is stored, not what was decrypted for the code.
    metadata = {"job": job.extra.get(STORED, job), "hook": name, **telemetry.describe_error(error)}
    telemetry.execute("oban.job.hook_failed", metadata)


# Those of a worker itself: they run where its code does, on the same instance.


def own_hooks(worker: str, cls: type, *, is_async: bool) -> bool:
    """Whether the class has hooks. Raises InvalidOption for one that cannot be called."""
    found = [
        name
        for name in SHAPES
        if callable(method := getattr(cls, name, None)) and method is not vars(Hooks)[name]
    ]
    for name in found:
        method = inspect.getattr_static(cls, name)
        if isinstance(method, staticmethod | classmethod):
            check_shape(f"{worker}.{name}", name, getattr(cls, name))
        else:
            check_shape(f"{worker}.{name}", name, partial(getattr(cls, name), None))
        kind = inspect.iscoroutinefunction(inspect.unwrap(getattr(cls, name)))
        if kind and not is_async:
            raise InvalidOption(
                f"{worker}.{name} is `async def` and its process is `def`; that runs on a thread, "
                "where nothing can be awaited: make both the same"
            )
        if name == "around" and is_async and not kind:
            raise InvalidOption(
                f"{worker}.around is `def` and its process is `async def`; it is `async def "
                "around(self, job, call_next)`, which awaits call_next()"
            )
    return bool(found)


def hooked(cls: type, *, is_async: bool) -> Callable[[Job], Any]:
    """Runs a job of a class with hooks of its own."""
    if is_async:

        async def call(job: Job) -> Any:
            worker = cls()
            hook = Hook.of(worker)
            return await own_layer(hook, job, partial(worker.process, job))

        return call
    return partial(own_layer_sync, cls)


async def own_layer(hook: Hook, job: Job, process: Callable[[], Awaitable[Any]]) -> Any:
    """As `layer`, but a `def` runs on the event loop as well: beside the code it belongs to."""
    direct = Hook(*(here(getattr(hook, name)) for name in SHAPES))
    return await layer(direct, job, process, nowhere)


async def nowhere(_: Callable[[], Any]) -> Any:
    raise AssertionError("hooks of a worker itself need no thread of their own")


def here(function: Callable[..., Any] | None) -> Callable[..., Any] | None:
    if function is None or is_async(function):
        return function

    async def call(*arguments: object) -> Any:
        value = function(*arguments)
        return await value if inspect.isawaitable(value) else value

    return call


def own_layer_sync(cls: type, job: Job) -> Any:
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
    except KeyboardInterrupt:
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
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  # foreign code, after the work is done
        tell_failed(job, name, error)
