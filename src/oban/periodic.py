"""A job that is enqueued by the calendar: when, with what, and what is done about missed times."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal, get_args

from oban.cron import Cron
from oban.errors import InvalidOption
from oban.fields import clean_text, seconds
from oban.job import Job

CatchUp = Literal["latest", "all", "none"]
Overlap = Literal["allow", "skip"]

#: Seconds for which a missed slot is caught up by `latest`; by `none` within its own minute only.
WINDOW: Final = 600.0
MINUTE: Final = 60.0
#: Slots caught up by one statement; more follow in the next.
MOST_AT_ONCE: Final = 1_000
LONGEST_NAME: Final = 200

#: Fields of the job that an entry may set. When it runs says the expression.
JOB_FIELDS: Final = ("queue", "priority", "max_attempts", "tags", "meta")
OPTIONS: Final = ("expr", "timezone", "name", "args", "catch_up", "window", "overlap", *JOB_FIELDS)

#: How a crontab may be given: one entry, or a list of them.
CronOption = str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]

cron_of = lru_cache(maxsize=4096)(Cron)


@dataclass(frozen=True, slots=True)
class Periodic:
    """One entry of the crontab. Its name is what its slots are stored under.

    - `catch_up` says which slots are run that no leader was there for: the `latest`, if it was less
      than `window` seconds ago; `all` of them; or `none`, none after its minute is over.
    - `overlap="skip"` leaves a slot out while the entry's last job is not finished.

    Raises InvalidOption, and InvalidJob for what none of its jobs could have.
    """

    worker: str
    expr: str
    #: None is the zone of the scheduler.
    timezone: str | None = None
    name: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    catch_up: CatchUp = "latest"
    window: float = WINDOW
    overlap: Overlap = "allow"
    #: Fields of its jobs, over those of the worker.
    fields: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, worker: str, given: object) -> "Periodic":
        """Read an expression, or a table with `expr` and other options."""
        table = {"expr": given} if isinstance(given, str) else given
        if not isinstance(table, Mapping) or "expr" not in table:
            raise InvalidOption(
                f"cron of {worker} is {given!r:.80}; it is an expression such as '0 9 * * MON', a "
                f"table with `expr` and any of {', '.join(OPTIONS[1:])}, or a list of those"
            )
        if unknown := sorted(str(key) for key in table if key not in OPTIONS):
            raise InvalidOption(
                f"cron of {worker} has no option {', '.join(unknown)}; there are: "
                f"{', '.join(OPTIONS)}"
            )
        own = {key: value for key, value in table.items() if key not in JOB_FIELDS}
        fields = {key: value for key, value in table.items() if key in JOB_FIELDS}
        return cls(worker=worker, fields=fields, **own)

    def __post_init__(self) -> None:
        cron_of(self.expr, self.timezone or "UTC")
        chosen("catch_up", self.catch_up, get_args(CatchUp))
        chosen("overlap", self.overlap, get_args(Overlap))
        window = seconds("window", self.window)
        if window < MINUTE:
            raise InvalidOption(f"cron's window is {window:g} seconds; it is at least {MINUTE:g}")
        object.__setattr__(self, "window", window)
        job = Job(worker=self.worker, args=dict(self.args), **self.fields)  # as each of its jobs
        object.__setattr__(self, "args", job.args)
        name = clean_text("cron's name", self.name) if self.name else self.derived_name()
        object.__setattr__(self, "name", name)

    def derived_name(self) -> str:
        """Another expression, zone or arguments make another entry."""
        name = f"{self.worker} {self.expr}" + (f" {self.timezone}" if self.timezone else "")
        if not self.args and len(name) <= LONGEST_NAME:
            return name
        content = json.dumps([name, self.args], sort_keys=True, default=str)
        return f"{name[:LONGEST_NAME]} #{hashlib.sha256(content.encode()).hexdigest()[:8]}"

    @property
    def is_reboot(self) -> bool:
        return self.cron("UTC").reboot

    def cron(self, timezone: str) -> Cron:
        return cron_of(self.expr, self.timezone or timezone)

    def signature(self, timezone: str) -> str:
        """What makes slots comparable: an entry that is read otherwise begins anew."""
        return f"{self.expr} {self.timezone or timezone}"

    def due(self, cron: Cron, last: datetime, now: datetime) -> list[datetime]:
        """The slots to run now when those up to `last` were seen to, ascending."""
        if self.catch_up == "all":
            return list(cron.between(last, now, MOST_AT_ONCE))
        slot = cron.previous(now)
        window = MINUTE if self.catch_up == "none" else self.window
        if slot is None or slot <= last or now - slot > timedelta(seconds=window):
            return []
        return [slot]

    def meta(self, timezone: str) -> dict[str, Any]:
        """What its jobs carry, to be told from others by any package."""
        return {
            "cron": True,
            "cron_expr": self.expr,
            "cron_name": self.name,
            "cron_tz": self.timezone or timezone,
        }


def chosen(name: str, value: object, among: tuple[str, ...]) -> None:
    if value not in among:
        raise InvalidOption(f"cron's {name} is {value!r:.80}; it is one of {', '.join(among)}")


def parse_all(worker: str, given: object) -> tuple[Periodic, ...]:
    """The entries of a worker: none, one, or a list. Raises InvalidOption for two of one name."""
    if given is None:
        return ()
    many = given if isinstance(given, list | tuple) else [given]
    entries = tuple(Periodic.parse(worker, each) for each in many)
    refuse_twins(entries)
    return entries


def refuse_twins(entries: tuple[Periodic, ...]) -> None:
    names: set[str] = set()
    for each in entries:
        if each.name in names:
            raise InvalidOption(
                f"two cron entries are called {each.name!r}; leave one out, or give it a `name`"
            )
        names.add(each.name)
