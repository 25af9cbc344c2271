"""What is typed into the search field: words with a colon, as `queue:mailers args.user_id:42`."""

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from oban.engines.browsing import JobSearch, PathValue
from oban.fields import clean_text
from oban.states import JobState

STATES: Final = frozenset(map(str, JobState))
UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
SPAN: Final = re.compile(r"(\d{1,6})([smhd])")
#: What may stand before a colon, with an example and what it finds.
FIELDS: Final[Mapping[str, tuple[str, str]]] = {
    "queue": ("queue:mailers", "in this queue"),
    "worker": ("worker:app.mail.Welcome", "of this worker"),
    "node": ("node:web-1", "that last ran on this node"),
    "tag": ("tag:nightly", "with this tag; several, with all"),
    "priority": ("priority:0", "of this priority, 0 to 9"),
    "id": ("id:42,43", "with these ids"),
    "args": ("args.user.id:42", "with this value in args"),
    "meta": ("meta.cron:true", "with this value in meta"),
    "since": ("since:2h", "with which something has happened within s, m, h or d"),
}
#: A page, an error and a log line hold no longer one.
MAX_LENGTH: Final = 2_000


@dataclass(frozen=True, slots=True)
class Query:
    search: JobSearch
    #: What of it means nothing, each in a sentence.
    errors: list[str] = field(default_factory=list)


def parse(text: str, state: str | None) -> Query:
    """Read a query. What cannot be read finds nothing out, and is told."""
    known = state if state in STATES else None
    search, errors = JobSearch(state=known), []
    try:
        words = shlex.split(text[:MAX_LENGTH])
    except ValueError:
        words = text[:MAX_LENGTH].replace('"', " ").replace("'", " ").split()
        errors.append("a quote is not closed")
    for word in words:
        try:
            search = replace(search, **read(word, search))
        except ValueError as error:
            errors.append(str(error))
    return Query(search, errors)


def read(word: str, so_far: JobSearch) -> dict[str, Any]:
    clean_text("the search", word)
    name, colon, value = word.partition(":")
    if not colon:
        if re.fullmatch(r"#?\d{1,18}", word):
            return {"ids": (*so_far.ids, int(word.lstrip("#")))}
        return {"worker_like": word}
    head, *keys = name.split(".")
    if head in ("args", "meta"):
        if not keys or not all(keys):
            raise ValueError(f"{name}: names no value; write args.user_id:42")
        found = PathValue(head, tuple(keys), value)  # type: ignore[arg-type]  # one of the two
        return {"paths": (*so_far.paths, found)}
    if name not in READERS:
        raise ValueError(f"{name!r} is none of: {', '.join(FIELDS)}")
    if not value:
        raise ValueError(f"{name}: is given nothing")
    return READERS[name](value, so_far)


def read_ids(value: str, so_far: JobSearch) -> dict[str, Any]:
    if not re.fullmatch(r"\d{1,18}(,\d{1,18}){0,999}", value):
        raise ValueError(f"id:{value:.40} is no list of ids; write id:42,43")
    return {"ids": (*so_far.ids, *map(int, value.split(",")))}


def read_priority(value: str, _: JobSearch) -> dict[str, Any]:
    if not re.fullmatch(r"\d{1,4}", value):
        raise ValueError(f"priority:{value:.40} is no number")
    return {"priority": int(value)}


def read_since(value: str, _: JobSearch) -> dict[str, Any]:
    found = SPAN.fullmatch(value)
    if found is None:
        raise ValueError(
            f"since:{value:.40} is no span of time; write since:30m, since:2h or since:7d"
        )
    seconds = min(int(found[1]) * UNITS[found[2]], 100 * 366 * 86_400)
    return {"since": datetime.now(UTC) - timedelta(seconds=seconds)}


READERS: Final[Mapping[str, Callable[[str, JobSearch], dict[str, Any]]]] = {
    "queue": lambda value, _: {"queue": value},
    "worker": lambda value, _: {"worker": value},
    "node": lambda value, _: {"node": value},
    "tag": lambda value, so_far: {"tags": (*so_far.tags, value.strip().lower())},
    "priority": read_priority,
    "id": read_ids,
    "since": read_since,
}


def quoted(word: str) -> str:
    """A word as it is to be typed."""
    return word if re.fullmatch(r"[^\s\"'\\]+", word) else shlex.quote(word)
