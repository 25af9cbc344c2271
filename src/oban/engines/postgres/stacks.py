"""The verbs by which somebody sees where the code of a running job is."""

from datetime import datetime

from oban.engines.postgres.rows import EPOCH, moment
from oban.engines.postgres.statements import PostgresOperation, Steps
from oban.engines.postgres.verbs import Verbs
from oban.engines.stacks import ToldStack


class StackVerbs(Verbs):
    def ask_stack(self, job_id: int) -> PostgresOperation[datetime]:
        def steps() -> Steps[datetime]:
            ((at, _),) = yield self.sql(
                "ask_stack", job_id=job_id, control_channel=self.channels.control
            )
            return moment(at) or EPOCH

        return PostgresOperation("ask_stack", steps, repeatable=True)

    def tell_stack(self, job_id: int, node: str, stack: str) -> PostgresOperation[None]:
        def steps() -> Steps[None]:
            yield self.sql("tell_stack", job_id=job_id, node=node, stack=stack)

        return PostgresOperation("tell_stack", steps, repeatable=True)

    def told_stack(self, job_id: int) -> PostgresOperation[ToldStack | None]:
        def steps() -> Steps[ToldStack | None]:
            rows = yield self.sql("told_stack", job_id=job_id)
            for node, told_at, stack in rows:
                return ToldStack(node, moment(told_at) or EPOCH, stack)
            return None

        return PostgresOperation("told_stack", steps, repeatable=True)
