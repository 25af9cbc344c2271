"""What the verbs of every file share: the statements and channels of one schema."""

from typing import Any

from oban.engines.postgres.channels import Channels
from oban.engines.postgres.statements import PostgresOperation, Statements, Steps, quoted


class Verbs:
    """Verbs build operations and touch nothing; their promises stand in `oban.engines`."""

    def __init__(self, prefix: str, due_within: float) -> None:
        self.sql = Statements(prefix)
        self.channels = Channels.of(prefix)
        #: An insert due within these seconds wakes the stagers.
        self.due_within = due_within
        self.jobs_table = f"{quoted(prefix)}.oban_jobs"

    def told(self, notify: bool) -> dict[str, Any]:
        """Whom a statement tells of the jobs that it has inserted, and of which."""
        return {
            "insert_channel": self.channels.insert,
            "due_channel": self.channels.due,
            "due_within": self.due_within,
            "notify": notify,
        }

    def counted(self, name: str, **parameters: object) -> PostgresOperation[int]:
        """A statement that returns one number."""

        def steps() -> Steps[int]:
            ((count,),) = yield self.sql(name, **parameters)
            return int(count)

        return PostgresOperation(name, steps)
