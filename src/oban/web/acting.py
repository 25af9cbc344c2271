"""What can be done to jobs from a page: how each is called, who may, and what it does."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from oban.oban import Oban
from oban.web.access import Role


@dataclass(frozen=True, slots=True)
class Action:
    #: What it did, in one word.
    done: str
    role: Role
    #: Does it to those of the ids that it can be done to; how many these were.
    act: Callable[[Oban, Sequence[int]], Awaitable[int]]


ACTIONS: Final[Mapping[str, Action]] = {
    "cancel": Action("cancelled", Role.OPERATE, lambda oban, ids: oban.cancel_many_jobs(ids)),
    "retry": Action("retried", Role.OPERATE, lambda oban, ids: oban.retry_many_jobs(ids)),
    "delete": Action("deleted", Role.ADMIN, lambda oban, ids: oban.delete_many_jobs(ids)),
}
