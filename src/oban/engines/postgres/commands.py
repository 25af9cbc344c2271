"""The verbs of commands to queues, which the nodes of other packages hear too."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from oban.engines.commands import EVERY, Aspect, Commandable, Intent
from oban.engines.postgres.rows import moment
from oban.engines.postgres.statements import PostgresOperation, Steps
from oban.engines.postgres.verbs import Verbs
from oban.fields import encode


class CommandVerbs(Verbs):
    def command(
        self,
        name: str,
        queue: str,
        node: str,
        aspects: Mapping[Aspect, Commandable],
        until: datetime | None = None,
    ) -> PostgresOperation[None]:
        payload = encode(aspects)
        ident = "any" if node == EVERY else f"{name}.{node}"
        # Nobody would take back at its end what foreign nodes were told for a time.
        signals = foreign_signals(queue, ident, aspects) if until is None else []

        def steps() -> Steps[None]:
            yield self.sql(
                "command_queue",
                name=name,
                queue=queue,
                node=node,
                aspects=payload,
                until=None if until is None else until.timestamp(),
                signals=signals,
                control_channel=self.channels.control,
                signal_channel=self.channels.signal,
            )

        return PostgresOperation("command", steps, repeatable=True)

    def reset(self, name: str, queue: str, node: str | None) -> PostgresOperation[int]:
        def steps() -> Steps[int]:
            ((count, _),) = yield self.sql(
                "reset_queue",
                name=name,
                queue=None if queue == EVERY else queue,
                node=node,
                control_channel=self.channels.control,
            )
            return int(count)

        return PostgresOperation("reset", steps, repeatable=True)

    def intents(self, name: str) -> PostgresOperation[list[Intent]]:
        def steps() -> Steps[list[Intent]]:
            rows = yield self.sql("list_intents", name=name)
            return [read_intent(json.loads(intent)) for (intent,) in rows]

        return PostgresOperation("intents", steps, repeatable=True)


def read_intent(row: Sequence[Any]) -> Intent:
    queue, node, aspect, value, version, set_at, expires_in = row
    at = moment(set_at)
    assert at is not None
    return Intent(queue, node, aspect, value, version, at, expires_in)


def foreign_signals(queue: str, ident: str, aspects: Mapping[Aspect, Commandable]) -> list[str]:
    """What nodes of other packages are told; with keys that they know, or they would crash."""
    target = {"queue": queue, "ident": ident}
    running, limit, paused = (aspects.get(each) for each in ("running", "limit", "paused"))
    if running is not None:
        details = {name: value for name, value in aspects.items() if name in ("limit", "paused")}
        return [encode({"action": "start" if running else "stop", **target, **details})]
    signals = []
    if limit is not None:
        signals.append({"action": "scale", **target, "limit": limit})
    if paused is not None:
        signals.append({"action": "pause" if paused else "resume", **target})
    return [encode(signal) for signal in signals]
