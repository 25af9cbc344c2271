"""Metadata in terms that every reader knows: text, numbers, lists and dicts."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from math import isfinite
from typing import Any
from uuid import UUID

from oban.errors import DatabaseError
from oban.telemetry.events import Metadata

JOB_FIELDS = ("id", "worker", "queue", "attempt", "max_attempts", "args", "meta", "tags")
LONGEST_TEXT = 65_536  # characters
LONGEST_INTEGER = 1024  # bits; Python refuses to print far longer ones
DEEPEST = 8  # levels, where the metadata may hold itself
MOST_ENTRIES = 100  # of what happened to each of many jobs

#: What a loop expects of a database; other errors are somebody's mistake.
DATABASE_ERRORS = frozenset(
    {DatabaseError.__name__, *(each.__name__ for each in DatabaseError.__subclasses__())}
)


def is_outage(name: str, metadata: Metadata) -> bool:
    """Whether a loop of ours tells that the database failed it, which it gets over by itself."""
    return (
        name.startswith("oban.")
        and not name.startswith("oban.job.")
        and name.endswith((".outage", ".exception"))
        and str(metadata.get("error_type")) in DATABASE_ERRORS
    )


def bounded(entries: Metadata | Sequence[Any]) -> Metadata | Sequence[Any]:
    """The first of many entries, and how many more there are."""
    rest = len(entries) - MOST_ENTRIES
    if rest <= 0:
        return entries
    if not isinstance(entries, dict):
        return [*entries[:MOST_ENTRIES], f"… {rest} more"]
    return {**dict(list(entries.items())[:MOST_ENTRIES]), "…": f"{rest} more"}


def plain(value: object, *, args: bool, depth: int = 0) -> Any:
    """Copy the value with everything replaced that JSON refuses, as deep as is worth reading."""
    if depth > DEEPEST:
        return "…"
    inner = partial(plain, args=args, depth=depth + 1)
    match value:
        case None | bool() | str():
            return value
        case int() if value.bit_length() <= LONGEST_INTEGER:
            return value
        case float() if isfinite(value):
            return value
        case dict():
            return {key if isinstance(key, str) else repr(key): inner(value[key]) for key in value}
        case list() | tuple():
            return [inner(each) for each in value]
        case int() | float():
            return described(value, args=args)
    said = described(value, args=args)
    return said if isinstance(said, str) else inner(said)


def job_fields(job: object, *, args: bool) -> Metadata:
    """A job's fields that are worth a log line: `args` only if asked, never a recorded result."""
    wanted = [field for field in JOB_FIELDS if args or field != "args"]
    fields = {field: getattr(job, field) for field in wanted if hasattr(job, field)}
    match fields.get("meta"):
        case {"recorded": recorded, "return": _, **rest}:
            fields["meta"] = {"recorded": recorded, **rest}
    return fields


def shortened(text: str, longest: int = LONGEST_TEXT) -> str:
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text)} characters)"


def is_job(value: object) -> bool:
    return hasattr(value, "worker") and hasattr(value, "max_attempts")


def described(value: object, *, args: bool) -> Any:
    """Say in JSON's terms what JSON does not know."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, set | frozenset):
        return list(value)
    try:
        # The repr of a job somewhere inside the metadata would tell its arguments.
        if is_job(value):
            return job_fields(value, args=args)
        return repr(value)
    except Exception as broken:  # noqa: BLE001  # a repr is a stranger's code
        return f"<{type(value).__name__}: {type(broken).__name__} in __repr__>"
