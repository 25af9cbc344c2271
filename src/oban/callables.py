"""Functions as they come from others: decorated, named in a configuration, async or not."""

import inspect
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from types import MethodType
from typing import Any

from oban.errors import InvalidOption


def imported(path: str, name: str) -> Any:
    """What stands at `module:object`. Raises InvalidOption, with `path` for where that was said."""
    if not is_path(name):
        raise InvalidOption(f"{path} is {name!r:.80}; it is written module:object")
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InvalidOption(f"{path} is {name!r}: {error}") from error


def is_path(name: str) -> bool:
    """Whether it is written `module:object`."""
    module, _, attribute = name.partition(":")
    return all(part.isidentifier() for part in (*module.split("."), attribute))


def is_async(function: object) -> bool:
    """Whether calling it gives a coroutine, which a decorator or partial around it may hide."""
    return any(inspect.iscoroutinefunction(layer) for layer in layers(function))


def layers(function: object) -> Iterator[object]:
    """A callable and what it is wrapped around, from the outside in."""
    seen: set[int] = set()
    while id(function) not in seen:
        seen.add(id(function))
        yield function
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, MethodType | staticmethod | classmethod):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif not inspect.isroutine(function) and not inspect.isclass(function):
            function = getattr(type(function), "__call__", None)  # noqa: B004  # its code, not whether it is callable


def refuse_generator(name: str, function: object) -> None:
    """Raise TypeError for a function whose body would never run: calling it only makes it."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{name} is a generator: it yields, and calling it runs nothing. Return a value "
            "instead, and loop over what it yields inside"
        )
