"""The verbs that prune finished jobs."""

from collections.abc import Sequence
from dataclasses import asdict

from oban.engines.history import Keep
from oban.engines.postgres.statements import PostgresOperation, Statement, Steps
from oban.engines.postgres.verbs import Verbs
from oban.fields import encode


class HistoryVerbs(Verbs):
    def prune(
        self,
        kept: Sequence[Keep],
        limit: int,
        *,
        counts: bool = False,
        spared: Sequence[int] = (),
        ids: Sequence[int] | None = None,
    ) -> PostgresOperation[int]:
        statement = self.pruning(kept, limit, counts, spared, ids, dry=False)

        def steps() -> Steps[int]:
            ((count, _),) = yield statement
            return int(count)

        return PostgresOperation("prune_jobs", steps)

    def prunable(
        self,
        kept: Sequence[Keep],
        limit: int,
        *,
        counts: bool = False,
        spared: Sequence[int] = (),
    ) -> PostgresOperation[list[int]]:
        statement = self.pruning(kept, limit, counts, spared, None, dry=True)

        def steps() -> Steps[list[int]]:
            ((_, ids),) = yield statement
            return list(ids)

        return PostgresOperation("prunable", steps, repeatable=True)

    def pruning(
        self,
        kept: Sequence[Keep],
        limit: int,
        counts: bool,
        spared: Sequence[int],
        ids: Sequence[int] | None,
        *,
        dry: bool,
    ) -> Statement:
        return self.sql(
            "prune_jobs",
            rules=encode([asdict(each) for each in kept]),
            limit=limit,
            counts=counts,
            spared=list(spared),
            ids=None if ids is None else list(ids),
            dry=dry,
        )
