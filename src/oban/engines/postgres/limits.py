"""The verbs around limits: what nodes and people say of them, and the lanes of jobs.

What is claimed within them is a turn's; see `oban_claim_limited` in the migrations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from oban.engines.commands import Aspect, Commandable
from oban.engines.postgres.statements import PostgresOperation, Steps
from oban.engines.postgres.verbs import Verbs
from oban.fields import encode
from oban.limits import LimitInfo, Limits, Partition

#: Spans of a rate's period that are counted one by one. The more there are, the less of the rate is
#: lost where a span ends.
SPANS: Final = 120
#: Lanes of a queue that one claim looks at.
MOST_LANES: Final = 1_000


class LimitVerbs(Verbs):
    def open_limits(
        self,
        queue: str,
        partition: Partition | None,
        shared: Mapping[str, Limits],
        *,
        overrule: bool,
    ) -> PostgresOperation[None]:
        limits = encode({name: stored(each) for name, each in shared.items()})

        def steps() -> Steps[None]:
            yield self.sql(
                "open_limits",
                queue=queue,
                paths=None if partition is None else partition.text,
                mark=None if partition is None else partition.mark,
                limits=limits,
                overrule=overrule,
            )

        return PostgresOperation("open_limits", steps, repeatable=True)

    def place(self, queue: str, limit: int) -> PostgresOperation[int]:
        return self.counted("place_jobs", queue=queue, limit=limit)

    def forget_limiters(self) -> PostgresOperation[int]:
        def steps() -> Steps[int]:
            return len((yield self.sql("forget_limiters")))

        return PostgresOperation("forget_limiters", steps, repeatable=True)

    def scale_limit(
        self, name: str, given: Mapping[Aspect, Commandable]
    ) -> PostgresOperation[bool]:
        def steps() -> Steps[bool]:
            ((count, _),) = yield self.sql(
                "scale_limit",
                limiter=limiter_of(name),
                given=encode(given),
                insert_channel=self.channels.insert,
            )
            return bool(count)

        return PostgresOperation("scale_limit", steps, repeatable=True)

    def reset_limit(self, name: str) -> PostgresOperation[bool]:
        def steps() -> Steps[bool]:
            return bool((yield self.sql("reset_limit", limiter=limiter_of(name))))

        return PostgresOperation("reset_limit", steps, repeatable=True)

    def shared_limits(self) -> PostgresOperation[list[LimitInfo]]:
        def steps() -> Steps[list[LimitInfo]]:
            rows = yield self.sql("shared_limits", spans=SPANS)
            return [
                LimitInfo(
                    name=name,
                    global_limit=options.get("global_limit"),
                    rate_limit=options.get("rate_limit"),
                    running=running,
                    started=started,
                    resting=resting,
                    scaled=scaled,
                )
                for name, text, scaled, running, started, resting in rows
                for options in [json.loads(text)]
            ]

        return PostgresOperation("shared_limits", steps, repeatable=True)


def limiter_of(name: str) -> str:
    return f"limit {name}"


def stored(limits: Limits) -> dict[str, Any]:
    """What is kept of a shared limit."""
    rate = None
    if limits.allowed is not None:
        rate = {"allowed": limits.allowed, "period": limits.period}
    return {"global_limit": limits.global_limit, "rate_limit": rate}
