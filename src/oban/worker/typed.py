"""Arguments of a type: a pydantic model, a dataclass or a TypedDict, stored as JSON.

Pydantic does the work for all three. What is stored is what it writes for the type, by its aliases
where there are some, and what a job is given is what it reads from that.
"""

import dataclasses
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args, get_origin, get_type_hints

from oban.errors import InvalidJob, InvalidOption
from oban.job import Job

if TYPE_CHECKING:
    from pydantic import ValidationError

NEEDS_PYDANTIC: Final = (
    'arguments of a type need the package pydantic; install it with: pip install "oban[typed]"'
)
#: Errors of one job's arguments that a message names.
MOST_ERRORS: Final = 5


def args_type(cls: type, base: type) -> Any:
    """What stands between the brackets of `Worker[…]` among the bases of the class, or None."""
    for each in cls.__mro__:
        for generic in getattr(each, "__orig_bases__", ()):
            if get_origin(generic) is base:
                (found,) = get_args(generic)
                plain = isinstance(found, TypeVar) or get_origin(found) in (dict, Mapping)
                return None if plain or found in (dict, Any, Mapping) else found
    return None


class TypedArgs:
    """Raises InvalidOption for a type that has no arguments by name."""

    def __init__(self, worker: str, kind: Any, *, private: bool = False) -> None:
        self.worker = worker
        self.kind = kind
        #: Whether messages leave out what was given.
        self.private = private
        is_model = inspect.isclass(kind) and hasattr(kind, "model_fields")
        is_dict = is_typed_dict(kind)
        if not (is_model or is_dict or (inspect.isclass(kind) and dataclasses.is_dataclass(kind))):
            raise InvalidOption(
                f"the arguments of {worker} are of {kind!r:.80}; they are of a pydantic model, a "
                "dataclass or a TypedDict"
            )
        try:
            from pydantic import TypeAdapter
            from pydantic.errors import PydanticUserError
        except ImportError:
            raise InvalidOption(f"{worker}: {NEEDS_PYDANTIC}") from None
        try:
            self.adapter: TypeAdapter[Any] = TypeAdapter(readable(kind) if is_dict else kind)
        except (PydanticUserError, NameError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise InvalidOption(
                f"the arguments of {worker} are of {kind!r:.80}: {reason}"
            ) from error

    def stored(self, given: object) -> dict[str, Any]:
        """The arguments as they are kept. Raises InvalidJob for what is not of the type."""
        from pydantic import ValidationError

        value = {} if given is None else given
        try:
            if isinstance(value, Mapping):
                value = self.adapter.validate_python(dict(value))
            text = self.adapter.dump_json(value, by_alias=True, warnings="error")
            self.adapter.validate_json(text)  # it may have been built without a look at it
        except ValidationError as error:
            raise self.wrong(error) from None
        except (ValueError, TypeError, AttributeError) as error:
            got = "what is not shown" if self.private else f"{given!r:.200}"
            why = "" if self.private else f": {str(error).splitlines()[0]}"
            raise InvalidJob(
                f"args of {self.worker} is {got}; it is a {name_of(self.kind)}, or a dict of its "
                f"fields{why}"
            ) from None
        args = json.loads(text)
        if not isinstance(args, dict):
            raise InvalidJob(f"args of {self.worker} is written as {args!r:.80}; it is an object")
        return args

    def read(self, args: object) -> Any:
        """The arguments in their type. Raises InvalidJob for a row with others."""
        from pydantic import ValidationError

        try:
            return self.adapter.validate_json(json.dumps(args))
        except ValidationError as error:
            raise self.wrong(error) from None

    def wrong(self, error: "ValidationError") -> InvalidJob:
        if self.private:  # a place and a message may hold what was given
            kinds = sorted({each["type"] for each in error.errors()})
            return InvalidJob(
                f"args of {self.worker} is no {name_of(self.kind)}: {', '.join(kinds)}; it is "
                "encrypted, and so not shown"
            )
        told = [
            f"{'.'.join(map(str, each['loc'])) or 'args'}: {each['msg']}, got {each['input']!r:.80}"
            for each in error.errors(include_url=False, include_context=False)[:MOST_ERRORS]
        ]
        rest = error.error_count() - len(told)
        more = f"; and {rest} more" if rest else ""
        return InvalidJob(
            f"args of {self.worker} is no {name_of(self.kind)}: {'; '.join(told)}{more}"
        )

    @contextmanager
    def of(self, job: Job[Any]) -> Iterator[None]:
        """Let the job have its arguments in their type, as long as its code runs."""
        stored = job.args
        job.args = self.read(stored)
        try:
            yield
        finally:
            job.args = stored

    def around(self, call: Callable[[Job], Any], *, is_async: bool) -> Callable[[Job], Any]:
        """What runs a job, with its arguments in their type."""
        if is_async:

            async def typed_async(job: Job) -> Any:
                with self.of(job):
                    return await call(job)

            return typed_async

        def typed(job: Job) -> Any:
            with self.of(job):
                return call(job)

        return typed

    def around_backoff(self, backoff: Callable[[Job], Any]) -> Callable[[Job], Any]:
        async def typed(job: Job) -> Any:
            with ExitStack() as stack:
                # Args that are not of the type are what it failed with: it sees them as they are.
                with suppress(InvalidJob):
                    stack.enter_context(self.of(job))
                given = backoff(job)
                return await given if inspect.isawaitable(given) else given

        return typed


def is_typed_dict(kind: object) -> bool:
    return inspect.isclass(kind) and hasattr(kind, "__total__") and issubclass(kind, dict)


def readable(kind: Any) -> Any:
    """As pydantic reads it: before Python 3.12 it asks for those of typing_extensions."""
    from typing import NotRequired, Required

    from typing_extensions import TypedDict

    hints = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        inner = get_args(hint)[0] if get_origin(hint) in (Required, NotRequired) else hint
        inner = readable(inner) if is_typed_dict(inner) else inner
        hints[name] = Required[inner] if name in kind.__required_keys__ else NotRequired[inner]
    return TypedDict(kind.__name__, hints)  # type: ignore[operator]


def name_of(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))
