"""What runs around jobs: before, after, when one fails, or all around it.

Hooks lie around each other like the layers of an onion: those of an `Oban` outermost, then those
given to the worker's decorator, each in the order given, and innermost the methods of the worker
itself. The layer of one hook is, from the outside in: `before_process`, then `around`, and within
that the next layer. On the way out comes `after_process`, or `on_error` if something was raised.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self

from oban.callables import imported, is_async
from oban.errors import InvalidOption
from oban.job import Job

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


def own_hooks(worker: str, cls: type, *, of_async: bool) -> bool:
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
        awaits = is_async(getattr(cls, name))
        if awaits and not of_async:
            raise InvalidOption(
                f"{worker}.{name} is `async def` and its process is `def`; that runs on a thread, "
                "where nothing can be awaited: make both the same"
            )
        if name == "around" and of_async and not awaits:
            raise InvalidOption(
                f"{worker}.around is `def` and its process is `async def`; it is `async def "
                "around(self, job, call_next)`, which awaits call_next()"
            )
    return bool(found)
