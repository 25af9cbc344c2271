"""Options as classes: how a field's annotation becomes the rule that its values are held against.

The annotation is the whole rule, so that adding an option is adding a line: the type, and in
`Annotated` the range and whether it is secret.
"""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from difflib import get_close_matches
from itertools import chain
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Literal,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from oban.errors import InvalidJob, InvalidOption
from oban.fields import clean_name, clean_object, clean_text


@dataclass(frozen=True, slots=True)
class Range:
    """What a number, or the size of a text in bytes, may be; `why` explains the bound."""

    low: int | float
    high: int | float
    why: str = ""


TEXT: Final = Range(1, 4_096)

#: Marks text that may hold a password: messages never quote it, and the field hides it in `repr`.
SECRET: Final = "secret"  # noqa: S105  # a mark, not a password


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Options that hold only valid values, however they were built."""

    #: What stands before an option's name in a message.
    path: ClassVar[str] = ""
    #: The option that a bare value stands for.
    shorthand: ClassVar[str | None] = None
    #: The tables that true and false stand for.
    switch: ClassVar[Mapping[bool, Mapping[str, object]]] = {}
    #: Options that come in later versions, each with the value that means nothing.
    later: ClassVar[Mapping[str, object]] = {}

    @classmethod
    def derive(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Fill in the options whose defaults depend on what is given for others."""
        return given

    @classmethod
    def requires(cls) -> list[str]:
        """The options without a default."""
        return [
            each.name
            for each in fields(cls)
            if each.default is MISSING and each.default_factory is MISSING
        ]

    def __post_init__(self) -> None:
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        for name, value in check(type(self), self.path, given).items():
            object.__setattr__(self, name, value)


P = TypeVar("P", bound=Part)


def parse(part: type[P], path: str, given: object) -> P:
    """Build `part` from a table, or from the bare value it has a shorthand for."""
    if isinstance(given, part):
        return given
    if isinstance(given, bool) and part.switch:
        given = part.switch[given]
    bare = isinstance(given, str | int | float) and not isinstance(given, bool)
    table = {part.shorthand: given} if part.shorthand and bare else given
    if not isinstance(table, Mapping):
        short = f"a {part.shorthand} or " if part.shorthand else ""
        short = f"true, false or {short}" if part.switch else short
        raise InvalidOption(
            f"{path.rstrip('.')} is {given!r:.80}; it is {short}a table of {', '.join(rules(part))}"
        )
    known = rules(part)
    given = {key: value for key, value in table.items() if value is not None or key not in known}
    for name in part.requires():
        if name not in given:
            raise InvalidOption(f"{path}{name} is missing; it is {known[name]}")
    return part(**part.derive(check(part, path, given)))


def check(part: type[Part], path: str, given: Mapping[Any, object]) -> dict[str, Any]:
    """Return the values given for options of `part`, each valid; raise InvalidOption otherwise."""
    known, later = rules(part), part.later
    cleaned = {}
    for key, value in given.items():
        if key in known:
            cleaned[key] = clean(path + key, known[key], value)
        elif key not in later:
            raise unknown(path, key, known, later)
        elif not (value is None or value is False or value in ({}, later[key])):
            raise InvalidOption(
                f"{path}{key} is {value!r:.80}, and {path}{key} is not in this version yet; "
                "remove it, or leave it empty"
            )
    return cleaned


def unknown(
    path: str, key: object, known: Iterable[str], later: Iterable[str] = ()
) -> InvalidOption:
    nearest = get_close_matches(str(key), [*known, *later], n=1)
    hint = f" (the nearest is {path}{nearest[0]})" if nearest else ""
    return InvalidOption(f"{path}{key} is not an option{hint}; there are: {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class Rule:
    """What an annotation asks of a value."""

    kind: Any
    optional: bool
    range: Range | None
    secret: bool
    #: Words that stand for a value of another kind, such as "auto".
    words: tuple[str, ...] = ()

    @classmethod
    def of(cls, annotation: Any) -> Self:
        marks: list[Any] = []
        if get_origin(annotation) is Annotated:
            annotation, *marks = get_args(annotation)
        is_union = get_origin(annotation) in (Union, UnionType)
        arms = get_args(annotation) if is_union else (annotation,)
        words = [get_args(arm) for arm in arms if get_origin(arm) is Literal]
        (kind,) = (arm for arm in arms if arm is not NoneType and get_origin(arm) is not Literal)
        ranges = [mark for mark in marks if isinstance(mark, Range)]
        return cls(
            kind=kind,
            optional=NoneType in arms,
            range=ranges[0] if ranges else TEXT if kind is str else None,
            secret=SECRET in marks,
            words=tuple(chain.from_iterable(words)),
        )

    def allows(self, value: object) -> bool:
        if self.kind is bool:
            return isinstance(value, bool)
        assert self.range is not None, "a number without a range is unbounded"
        if self.kind is str:
            return (
                isinstance(value, str)
                and bool(value.strip())
                and self.range.low <= len(value.encode(errors="replace")) <= self.range.high
            )
        numbers = int if self.kind is int else int | float
        return (
            isinstance(value, numbers)
            and not isinstance(value, bool)
            and self.range.low <= value <= self.range.high
        )

    def __str__(self) -> str:
        if isinstance(self.kind, type) and issubclass(self.kind, Part):
            switch = "true, false or " if self.kind.switch else ""
            return f"{switch}a table of {', '.join(rules(self.kind))}"
        if self.kind is bool:
            return "true or false"
        assert self.range is not None
        low, high = f"{self.range.low:_}", f"{self.range.high:_}"
        why = f": {self.range.why}" if self.range.why else ""
        if self.kind is str:
            return f"text of {low} to {high} bytes{why}"
        noun = "a whole number" if self.kind is int else "a number of seconds"
        words = "".join(f'"{word}" or ' for word in self.words)
        return f"{words}{noun} from {low} to {high}{why}"


def rules(part: type[Part]) -> dict[str, Rule]:
    return {each.name: Rule.of(each.type) for each in fields(part)}


def clean(path: str, rule: Rule, value: object) -> Any:
    """Return `value` in the type the rule names, or raise InvalidOption saying what it asks."""
    if value is None and rule.optional:
        return None
    if isinstance(rule.kind, type) and issubclass(rule.kind, Part):
        return parse(rule.kind, f"{path}.", value)
    match get_origin(rule.kind):
        case None:
            return clean_plain(path, rule, value)
        case origin if origin is tuple:
            return clean_list(path, rule, value)
        case _:
            return clean_table(path, rule, value)


def clean_plain(path: str, rule: Rule, value: object) -> Any:
    if rule.words and value in rule.words:
        return value
    if not rule.allows(value):
        got = f"a {type(value).__name__} that is not shown" if rule.secret else f"{value!r:.80}"
        raise InvalidOption(f"{path} is {got}; it is {rule}")
    if isinstance(value, str):
        check_text(path, value, secret=rule.secret)
    return rule.kind(value)


def clean_list(path: str, rule: Rule, value: object) -> tuple[Any, ...]:
    item = replace(Rule.of(get_args(rule.kind)[0]), secret=rule.secret)
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        got = f"a {type(value).__name__} that is not shown" if rule.secret else f"{value!r:.80}"
        raise InvalidOption(f"{path} is {got}; it is a list, each {item}")
    return tuple(clean(f"{path}[{at}]", item, each) for at, each in enumerate(value))


def clean_table(path: str, rule: Rule, value: object) -> dict[str, Any]:
    if get_args(rule.kind)[1] is Any:  # plain data: whoever uses it knows what it may hold
        return clean_plain_table(path, value)
    item = Rule.of(get_args(rule.kind)[1])
    if not isinstance(value, Mapping):
        raise InvalidOption(f"{path} is {value!r:.80}; it is a table of names and their options")
    named = {check_name(f"a name in {path}", name): each for name, each in value.items()}
    return {name: clean(f"{path}.{name}", item, each) for name, each in named.items()}


def clean_plain_table(path: str, value: object) -> dict[str, Any]:
    try:
        return clean_object(path, value)
    except InvalidJob as error:
        raise InvalidOption(str(error)) from None


def check_name(path: str, value: object) -> str:
    try:
        return clean_name(path, value)
    except InvalidJob as error:
        raise InvalidOption(str(error)) from None


def check_text(path: str, value: str, *, secret: bool) -> None:
    try:
        clean_text(path, value)
    except InvalidJob as error:
        hidden = f"{path} holds a NUL character or is not valid Unicode text; it is not shown"
        raise InvalidOption(hidden if secret else str(error)) from None
