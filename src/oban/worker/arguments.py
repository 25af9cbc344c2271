"""A function's arguments as a job stores them: by name, there and back."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

NAMED: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Arguments:
    """Binds calls to the signature of one function.

    Only what a call gives is stored. A default is filled in when the job runs, so a default that
    changes meanwhile takes effect for jobs that wait.
    """

    def __init__(self, function: Callable[..., Any], name: str, *, private: bool = False) -> None:
        self.name = name
        #: Whether messages leave out what was given.
        self.private = private
        self.signature = inspect.signature(function)
        parameters = self.signature.parameters.values()
        for each in parameters:
            if each.kind in VARIADIC:
                raise TypeError(
                    f"@job cannot store {each} of {name}{self.signature}: arguments are stored by "
                    "name. Give the function a parameter for each, one of them a list or a dict"
                )
        #: What a call may pass as a keyword, and so what is not an option of the job.
        self.keywords = frozenset(each.name for each in parameters if each.kind in NAMED)
        self.positional = tuple(each for each in parameters if each.kind not in NAMED)

    def bind(self, values: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
        """What a job of this call stores. Raises TypeError where the call itself would."""
        try:
            return dict(self.signature.bind(*values, **keywords).arguments)
        except TypeError as error:
            raise TypeError(f"{error}; the signature is {self.name}{self.signature}") from None

    def check(self, args: object) -> dict[str, Any]:
        """What a job with these stored arguments stores, if the function can take them."""
        return self.bind(*self.spread(args))

    def spread(self, args: object) -> tuple[list[Any], dict[str, Any]]:
        """Stored arguments as positional and keyword arguments of a call."""
        if not isinstance(args, Mapping):
            shown = "" if self.private else f" ({args!r:.60})"
            raise TypeError(
                f"args is a {type(args).__name__}{shown}; {self.name} takes a dict of arguments by "
                "name"
            )
        keywords = dict(args)
        values = []
        for each in self.positional:
            if each.name in keywords:
                values.append(keywords.pop(each.name))
            elif each.default is not each.empty:
                values.append(each.default)
            else:
                break  # the call itself says what is missing
        return values, keywords
