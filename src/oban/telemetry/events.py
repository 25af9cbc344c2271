"""Attach handlers to events, execute events, and span a stretch of work with them."""

import inspect
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import lru_cache
from types import TracebackType
from typing import Any, Self, TypeAlias

from oban.errors import InvalidOption
from oban.telemetry.tracebacks import write_traceback

Metadata: TypeAlias = dict[str, Any]
Handler: TypeAlias = Callable[[str, Metadata], object]


def attach(
    id: str,  # noqa: A002 - the contract's name
    events: str | Iterable[str],
    handler: Handler,
    *,
    replace: bool = False,
) -> None:
    """Call `handler(name, metadata)` for each of these events until `detach(id)`.

    A name may be a pattern: `oban.job.*`, `oban.*.exception`. Handlers run one after another, in
    the order they were attached, in the thread or event loop where the event happens: be quick,
    never block, and leave the metadata, which all handlers share, as it is. What a handler raises
    is logged; the handler stays attached. An id that is taken is an error unless it is to be
    replaced.
    """
    names = _names(events)
    if inspect.iscoroutinefunction(handler):
        message = f"handler {id!r} is an async function; handlers are plain functions"
        raise TypeError(f"{message}: start a task inside one to await something")
    if not callable(handler):
        raise TypeError(f"handler {id!r} must be callable with (name, metadata), got {handler!r}")
    with _writing:
        if id in _routes.attachments and not replace:
            message = f"a handler is already attached as {id!r}"
            raise InvalidOption(f"{message}: detach({id!r}) it first, or pass replace=True")
        _publish({**_routes.attachments, id: (names, handler)})


def detach(id: str) -> bool:  # noqa: A002 - the contract's name
    """Stop calling the handler attached under this id; false if there was none.

    An event that is being executed in another thread may still reach it.
    """
    with _writing:
        left = {other: kept for other, kept in _routes.attachments.items() if other != id}
        found = len(left) < len(_routes.attachments)
        if found:
            _publish(left)
    return found


def listening(name: str) -> bool:
    """Whether any handler would hear this event: one dict lookup, to skip building metadata."""
    return bool(_routes[name])


def execute(name: str, metadata: Metadata) -> None:
    """Tell this event to its handlers, here and now; return at once if there are none.

    Never raises because of a handler, except for what is no `Exception`, such as a cancellation.
    """
    for id_, handler in _routes[name]:
        try:
            handler(name, metadata)
        except Exception:  # noqa: BLE001  # a stranger's code must not stop a job or a loop
            with suppress(Exception):  # nor may a stranger's logging handler
                _log.exception("telemetry handler %r failed on %s", id_, name)


def span(prefix: str, metadata: Mapping[str, Any] | None = None) -> "Span":
    """Surround a stretch of work, awaits included, with events.

    Entering executes `prefix.start`; leaving executes `prefix.stop`, or `prefix.exception` with
    `describe_error` when an error, a cancellation included, passes through: it is never held
    back. All three carry the metadata and `system_time`, when the span began in nanoseconds since
    the epoch; the last also `duration` in nanoseconds and what was added meanwhile with
    `.add(...)`. A span that begins while nobody listens stays silent to its end.
    """
    start, stop, exception = _span_names(prefix)
    routes = _routes
    if routes[start] or routes[stop] or routes[exception]:
        return _AudibleSpan(prefix, metadata or {})
    return _SILENCE


def describe_error(error: BaseException, since: TracebackType | None = None) -> Metadata:
    """What an `.exception` event says about an error, whatever its own `__str__` does.

    The traceback begins with `since`, or with where the error was caught.
    """
    try:
        message = str(error)
    except BaseException as broken:  # noqa: BLE001  # an error's text is a stranger's code
        message = f"<{type(broken).__name__} in __str__>"
    try:
        written = write_traceback(error, since or error.__traceback__)
    except BaseException as broken:  # noqa: BLE001  # so are its notes
        written = f"{type(error).__name__}: {message} <{type(broken).__name__} in its traceback>\n"
    return {
        "error_message": message,
        "error_type": type(error).__name__,
        "traceback": written,
    }


class Span:
    """What `span` yields; this one is silent."""

    __slots__ = ()

    def add(self, metadata: Mapping[str, Any]) -> None:
        """Put more into the event that ends the span."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


class _AudibleSpan(Span):
    __slots__ = ("_began", "_metadata", "_prefix")

    def __init__(self, prefix: str, metadata: Mapping[str, Any]) -> None:
        self._prefix = prefix
        self._metadata = dict(metadata)

    def add(self, metadata: Mapping[str, Any]) -> None:
        self._metadata.update(metadata)

    def __enter__(self) -> Self:
        self._metadata["system_time"] = time.time_ns()
        execute(f"{self._prefix}.start", dict(self._metadata))
        self._began = time.monotonic_ns()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._metadata["duration"] = time.monotonic_ns() - self._began
        if error is None:
            execute(f"{self._prefix}.stop", self._metadata)
        elif listening(name := f"{self._prefix}.exception"):
            execute(name, self._metadata | describe_error(error))


_SILENCE = Span()

_Attachment: TypeAlias = tuple[frozenset[str], Handler]

# Far more names than the package has; beyond it a name is matched again each time it is asked.
_REMEMBERED_NAMES = 4096


class _Routes(dict[str, tuple[tuple[str, Handler], ...]]):
    """The handlers of each event name, found when a name is first asked for and then kept.

    The attachments never change: a new set of them is a new `_Routes`, so readers need no lock.
    """

    def __init__(self, attachments: Mapping[str, _Attachment]) -> None:
        super().__init__()
        self.attachments = attachments

    def __missing__(self, name: str) -> tuple[tuple[str, Handler], ...]:
        handlers = tuple(
            (id_, handler)
            for id_, (patterns, handler) in self.attachments.items()
            if any(fnmatchcase(name, pattern) for pattern in patterns)
        )
        if len(self) < _REMEMBERED_NAMES:
            self[name] = handlers
        return handlers


_routes = _Routes({})
_writing = threading.Lock()
_log = logging.getLogger("oban")


def _publish(attachments: Mapping[str, _Attachment]) -> None:
    global _routes  # noqa: PLW0603 - the one piece of state; replaced whole, under the lock
    _routes = _Routes(attachments)


def _names(events: str | Iterable[str]) -> frozenset[str]:
    names = frozenset([events] if isinstance(events, str) else events)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"an event is named by a str such as 'oban.job.stop', got {name!r}")
    if not names:
        raise InvalidOption("events is empty: name at least one, such as 'oban.job.stop'")
    return names


@lru_cache(maxsize=1024)
def _span_names(prefix: str) -> tuple[str, str, str]:
    return f"{prefix}.start", f"{prefix}.stop", f"{prefix}.exception"
