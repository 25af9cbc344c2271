"""What all causes are told with. A row may hold anything, and none of this fails for it."""

import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from oban.engines.explain import JobFacts
from oban.job import Job
from oban.phrases import length_text, listed

TRACEBACK: Final = "Traceback (most recent call last)"
#: Where the name stands in a command, behind what is to be done with it.
SUBJECT: Final = 2
#: Characters of an error, or of a name, that are told.
MOST_TOLD: Final = 200


def command(*words: object) -> str:
    """An `oban …` to be pasted into a shell, whatever a queue or a limit, the third, is called."""
    texts = [str(each) for each in words]
    if len(texts) > SUBJECT and texts[SUBJECT].startswith("-"):  # `--all`, say
        texts = [*texts[:SUBJECT], *texts[SUBJECT + 1 :], "--", texts[SUBJECT]]
    return shlex.join(["oban", *texts])


def seconds_since(facts: JobFacts, moment: datetime | None) -> float | None:
    """By the database's clock, None where there is no such moment."""
    return None if moment is None else max(0.0, (facts.at - moment).total_seconds())


def since(facts: JobFacts, moment: datetime | None) -> str:
    seconds = seconds_since(facts, moment)
    return "an unknown time" if seconds is None else length_text(seconds)


def at_text(moment: datetime) -> str:
    """In UTC, and where the clocks here show something else, as they do."""
    text = f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    with suppress(OverflowError, ValueError, OSError):  # an end of the calendar
        here = moment.astimezone()
        if here.utcoffset() != moment.astimezone(UTC).utcoffset():
            text += f" ({here:%Y-%m-%d %H:%M:%S} here)"
    return text


def meta_of(job: Job) -> Mapping[str, Any]:
    meta: object = job.meta
    return meta if isinstance(meta, dict) else {}


@dataclass(frozen=True, slots=True)
class KeptError:
    """An entry of a job's errors."""

    text: str
    attempt: object = None
    at: datetime | None = None

    @property
    def has_traceback(self) -> bool:
        return TRACEBACK in self.text

    @property
    def gist(self) -> str:
        """What was raised, of a traceback; else the first line."""
        return shortened(raised_line(self.text) if self.has_traceback else first_line(self.text))


def last_error(job: Job) -> KeptError | None:
    errors: object = job.errors
    if not isinstance(errors, list) or not errors:
        return None
    last = errors[-1]
    if not isinstance(last, dict):
        return KeptError(str(last))
    return KeptError(str(last.get("error", "")), last.get("attempt"), read_moment(last.get("at")))


def read_moment(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def raised_line(text: str) -> str:
    """The line behind the last place in the code, which names the exception."""
    lines = text.splitlines()
    places = [at for at, line in enumerate(lines) if line.startswith('  File "')]
    behind = lines[places[-1] + 1 :] if places else lines
    return next((line for line in behind if line and not line[0].isspace()), first_line(text))


def first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")


def shortened(text: str) -> str:
    return text if len(text) <= MOST_TOLD else f"{text[: MOST_TOLD - 1]}…"


def named(nodes: Iterable[str]) -> str:
    """The nodes, each once, and no more than a reader takes in."""
    return listed(list(dict.fromkeys(nodes)), 5)
