"""The values that a job's fields may take: each is cleaned, or refused with what it may be."""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from oban.errors import InvalidJob

MAX_NAME_LENGTH: Final = 127
MAX_ID: Final = 2**63 - 1
MAX_ATTEMPTS: Final = 32_767  # the column is a smallint on Elixir's tables
MAX_SECONDS: Final = 100 * 366 * 86_400

#: Seconds as a person may write them.
Seconds = int | float | timedelta


def clean_name(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidJob(f"{name} is {value!r}; it is a name of 1 to {MAX_NAME_LENGTH} characters")
    if len(value) > MAX_NAME_LENGTH:
        raise InvalidJob(
            f"{name} has {len(value)} characters ({value!r:.40}); at most {MAX_NAME_LENGTH} fit"
        )
    return clean_text(name, value)


def clean_text(name: str, value: str) -> str:
    """Text that PostgreSQL can hold: no NUL character, no half of a surrogate pair."""
    if "\0" in value:
        raise InvalidJob(f"{name} holds a NUL character, which PostgreSQL cannot store: {value!r}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidJob(f"{name} is not valid Unicode text: {value!r}") from None
    return value


def clean_integer(low: int, high: int) -> Callable[[str, object], int]:
    def clean(name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InvalidJob(f"{name} is {value!r}; it is a whole number from {low} to {high}")
        return value

    return clean


def clean_tags(name: str, value: object) -> list[str]:
    """Trimmed, lower-cased, each once, sorted."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidJob(f"{name} is {value!r}; it is a list of words")
    tags = list(value)
    for tag in tags:
        if not isinstance(tag, str):
            raise InvalidJob(f"{name} holds {tag!r}; each tag is text")
        clean_text(name, tag)
    return sorted({tag.strip().lower() for tag in tags if tag.strip()})


def clean_moment(name: str, value: object) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise InvalidJob(f"{name} is {value!r}; it is an aware datetime")
    if value.utcoffset() is None:
        raise InvalidJob(
            f"{name} is {value!r}, which names no time zone; use an aware datetime, "
            "such as datetime.now(timezone.utc)"
        )
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidJob(
            f"{name} is {value}; in UTC that is outside of the years 0001 to 9999"
        ) from None


def clean_object(name: str, value: object) -> dict[str, Any]:
    """A JSON object that PostgreSQL can hold."""
    if not isinstance(value, Mapping):
        raise InvalidJob(f"{name} is {value!r:.80}; it is a dict that JSON can hold")
    plain = value if isinstance(value, dict) else dict(value)
    to_json(name, plain)
    return plain


NUL_ESCAPE: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode


def to_json(name: str, value: object) -> str:
    """JSON text of `value`. Raises InvalidJob naming the place of what JSON cannot hold."""
    try:
        text = encode(value)
        if not text.isascii():
            text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidJob(f"{name} holds text that is not valid Unicode") from None
    except RecursionError:
        raise InvalidJob(f"{name} is nested too deeply for JSON") from None
    except (TypeError, ValueError) as error:
        raise InvalidJob(
            f"{name} cannot be written as JSON: {explain(value, name, error)}"
        ) from None
    if "\\u0000" in text and NUL_ESCAPE.search(text):
        raise InvalidJob(f"{name} holds a NUL character, which PostgreSQL cannot store")
    return text


def explain(value: object, name: str, error: Exception) -> str:
    try:
        return misfit(value, name, error)
    except RecursionError:
        return f"{error}, nested deeply"


def misfit(value: object, path: str, error: Exception) -> str:
    """Say where in `value` the first thing stands that JSON cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{path} is {value!r}, and JSON has no such number"
    if isinstance(value, Mapping):
        for key in value:
            if key is not None and not isinstance(key, str | int | float):
                return f"{path} has the key {key!r:.60}, a {type(key).__name__}; use str"
        inner = [(item, f"{path}[{key!r}]") for key, item in value.items()]
    elif isinstance(value, list | tuple):
        inner = [(item, f"{path}[{index}]") for index, item in enumerate(value)]
    elif value is None or isinstance(value, str | int | float):
        return ""
    else:
        return (
            f"{path} is a {type(value).__name__} ({value!r:.60}); use str, numbers, bool, None, "
            "lists and dicts"
        )
    if str(error).startswith("Circular"):
        return "it contains itself"
    return next((found for item, at in inner if (found := misfit(item, at, error))), str(error))


def seconds(name: str, value: object) -> float:
    """A finite number of seconds from a number or a timedelta."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidJob(f"{name} is {value!r}; it is a number of seconds or a timedelta")
    if not -MAX_SECONDS <= value <= MAX_SECONDS:  # nor is a NaN
        raise InvalidJob(f"{name} is {value!r} seconds; at most {MAX_SECONDS} (a hundred years)")
    return float(value)
