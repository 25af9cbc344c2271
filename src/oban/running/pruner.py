"""The pruner: forgets finished jobs once they are old enough, or too many."""

import math
import time
from collections.abc import Sequence
from typing import Final

from oban import telemetry
from oban.engines.base import Engine, Session
from oban.engines.history import Keep
from oban.errors import DataRefused
from oban.options import KeepOptions, PrunerOptions
from oban.running.leader import Leader
from oban.running.loop import Loop
from oban.running.refused import isolate
from oban.states import FINAL

#: Seconds between two looks whether there is something to do.
LOOK: Final = 5.0
#: Seconds between two batches, in which the others of the database have a breath.
BREATH: Final = 0.05
#: Jobs that are left alone since the database refuses to delete them; with more, pruning rests.
MOST_SPARED: Final = 1_000


class Pruner(Loop):
    """Runs on every node that may lead, and acts on the one that does.

    Two at once share the work: rows that another holds are passed over. Only queues that one of
    our nodes ever ran are touched.
    """

    name = "oban.pruner"

    def __init__(
        self,
        engine: Engine,
        session: Session,
        options: PrunerOptions,
        leader: Leader,
        *,
        counts: bool = False,
    ) -> None:
        super().__init__()
        self.engine = engine
        self.session = session
        self.options = options
        self.leader = leader
        #: Whether this node counts what has ended, for metrics.
        self.counts = counts
        self.kept = kept(options)
        self.due_at = -math.inf
        #: What the database refused to delete: somebody's row refers to it, say.
        self.spared: list[int] = []

    async def tick(self) -> float:
        """Delete one batch; return seconds to rest, few while there is more."""
        now = time.monotonic()
        if not self.options.enabled or not self.leader.is_leader or now < self.due_at:
            return min(LOOK, self.options.interval)
        with telemetry.span("oban.pruner.prune") as span:
            try:
                pruned = await self.prune()
                is_all = pruned < self.options.limit
            except DataRefused:
                pruned = await self.prune_apart()
                is_all = len(self.spared) >= MOST_SPARED
            span.add({"pruned_count": pruned})
        if not is_all:
            return BREATH
        self.spared = []  # by the next time they may be deletable
        self.due_at = now + self.options.interval
        return min(LOOK, self.options.interval)

    async def prune(self, ids: Sequence[int] | None = None) -> int:
        pruning = self.engine.prune(
            self.kept, self.options.limit, counts=self.counts, spared=self.spared, ids=ids
        )
        return await self.session.execute(pruning)

    async def prune_apart(self) -> int:
        """Delete a batch but for the jobs that the database refuses to delete; spare those."""
        looking = self.engine.prunable(
            self.kept, self.options.limit, counts=self.counts, spared=self.spared
        )
        counts: list[int] = []

        async def prune(ids: Sequence[int]) -> None:
            counts.append(await self.prune(ids))

        def tell(job_id: int, error: DataRefused) -> None:
            self.spared.append(job_id)
            metadata = {"job_id": job_id, **telemetry.describe_error(error)}
            telemetry.execute("oban.pruner.refused", metadata)

        await isolate(await self.session.execute(looking), prune, tell)
        return sum(counts)


def kept(options: PrunerOptions) -> list[Keep]:
    """What is kept, for every queue and then for those with a rule of their own.

    What is said of a queue and a state wins over what is said of the queue, that over what is said
    of the state, and that over what is said of all.
    """
    found = []
    for state in sorted(FINAL):
        by_state = over(options.states.get(state), options)
        found.append(Keep(None, state, by_state.max_age, by_state.max_count))
        for queue, rule in options.queues.items():
            own = over(rule.states.get(state), over(rule, by_state))
            found.append(Keep(queue, state, own.max_age, own.max_count))
    return found


def over(rule: KeepOptions | None, default: KeepOptions) -> KeepOptions:
    if rule is None:
        return default
    return KeepOptions(
        max_age=default.max_age if rule.max_age is None else rule.max_age,
        max_count=default.max_count if rule.max_count is None else rule.max_count,
    )
