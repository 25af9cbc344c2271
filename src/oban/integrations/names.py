"""Names that stand on series of numbers: few, whatever stands in the rows."""

from typing import Final

from oban.errors import UnknownWorker
from oban.metrics import REST
from oban.telemetry import Metadata

#: Names that are told apart. Each may be in some dozens of series.
MOST: Final = 200


class Names:
    """The first names that are heard of; all that come later are one, `*`."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.known: set[str] = set()

    def __call__(self, name: str) -> str:
        if name in self.known:
            return name
        if len(self.known) >= self.most:
            return REST
        self.known.add(name)
        return name

    def worker_of(self, ended: Metadata) -> str:
        """The worker of an attempt that has ended. One that nobody knows here takes no place:

        rows may name any number of them, and who works here would have none any more.
        """
        if ended.get("error_type") == UnknownWorker.__name__:
            return REST
        return self(ended["job"].worker)
