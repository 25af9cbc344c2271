"""Attempts are taken away from producers that died."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from oban.engines.nodes import Sighting
from oban.engines.operation import Operation

#: What became of an attempt whose producer died. `stopped` was cancelled before; `given back` had
#: not begun, or its process was shutting down; the last two are discarded.
Fate = Literal["rescued", "given back", "stopped", "exhausted", "suspect"]


@dataclass(frozen=True, slots=True)
class Rescued:
    id: int
    queue: str
    #: The producer that had it.
    uuid: str
    fate: Fate


class RescueVerbs(Protocol):
    def rescue(
        self,
        silent: Sequence[Sighting],
        max_crashes: int,
        limit: int,
        ids: Sequence[int] | None = None,
    ) -> Operation[list[Rescued]]:
        """Take up to `limit` attempts away from producers that are as silent as they were seen.

        Of the jobs `ids`, or of any.

        A beat that came meanwhile saves its producer. An attempt that ran stays counted and gets an
        error; a job that ran in `max_crashes` processes when they died is discarded, zero turns
        that off. Locked rows are passed over. Correct however many do it at once.
        """
        ...

    def rescue_old(self, age: float, limit: int) -> Operation[list[Rescued]]:
        """The same for attempts of ours that began `age` seconds ago, whoever runs them."""
        ...

    def attempts_of(self, uuids: Sequence[str]) -> Operation[list[int]]:
        """The jobs that these producers have as running."""
        ...
