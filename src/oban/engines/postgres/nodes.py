"""The verbs of a process among others: heartbeats, and the rescue of those that fell silent."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from oban.engines.postgres.rows import moment, read_json
from oban.engines.postgres.runs import key_rows
from oban.engines.postgres.statements import PostgresOperation, Rows, Statement, Steps
from oban.engines.postgres.verbs import Verbs
from oban.engines.told import read_told
from oban.engines.values import (
    EVERY,
    Aspect,
    Beat,
    Commandable,
    Intent,
    Keep,
    KnownProducer,
    Lease,
    ProducerIdentity,
    Pulse,
    Report,
    Rescued,
    Sighting,
)
from oban.fields import encode
from oban.outcome import AttemptKey


class NodeVerbs(Verbs):
    def register(self, producer: ProducerIdentity, max_age: float) -> PostgresOperation[None]:
        def steps() -> Steps[None]:
            yield self.sql(
                "register_producer",
                uuid=producer.uuid,
                name=producer.name,
                node=producer.node,
                queue=producer.queue,
                max_age=max_age,
            )

        return PostgresOperation("register", steps)

    def forget(self, uuids: Sequence[str]) -> PostgresOperation[None]:
        def steps() -> Steps[None]:
            yield self.sql("forget_producers", uuids=list(uuids))

        return PostgresOperation("forget", steps)

    def beat(self, report: Report) -> PostgresOperation[Beat]:
        # In one order in all statements, so that a beat and a rescue cannot wait for each other.
        ordered = sorted(report.pulses, key=lambda pulse: pulse.identity.uuid)
        payload = encode([pulse_row(pulse) for pulse in ordered])

        def steps() -> Steps[Beat]:
            (row,) = yield self.sql(
                "beat",
                pulses=payload,
                max_age=report.max_age,
                name=report.name,
                node=report.node,
                candidate=report.candidate,
                lease=report.lease,
            )
            at, lost, astray, others, lease, intents = row
            return Beat(
                at=at,
                lost=by_uuid(json.loads(lost)),
                astray=frozenset(str(uuid) for uuid in astray),
                others=tuple(read_sighting(each) for each in json.loads(others)),
                lease=Lease(*json.loads(lease)) if lease else None,
                intents=tuple(read_intent(each) for each in json.loads(intents)),
            )

        return PostgresOperation("beat", steps, repeatable=True)

    def resign(self, name: str, node: str, uuid: str) -> PostgresOperation[None]:
        def steps() -> Steps[None]:
            yield self.sql(
                "resign", name=name, node=node, uuid=uuid, leader_channel=self.channels.leader
            )

        return PostgresOperation("resign", steps, repeatable=True)

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

    def rescue(
        self,
        silent: Sequence[Sighting],
        max_crashes: int,
        limit: int,
        ids: Sequence[int] | None = None,
    ) -> PostgresOperation[list[Rescued]]:
        payload = encode([sighting_row(each) for each in silent])

        def steps() -> Steps[list[Rescued]]:
            rows = yield self.sql(
                "rescue_attempts",
                silent=payload,
                max_crashes=max_crashes,
                limit=limit,
                ids=None if ids is None else list(ids),
                insert_channel=self.channels.insert,
            )
            return read_rescued(rows)

        return PostgresOperation("rescue", steps)

    def attempts_of(self, uuids: Sequence[str]) -> PostgresOperation[list[int]]:
        def steps() -> Steps[list[int]]:
            return [row[0] for row in (yield self.sql("attempts_of", uuids=list(uuids)))]

        return PostgresOperation("attempts_of", steps, repeatable=True)

    def rescue_old(self, age: float, limit: int) -> PostgresOperation[list[Rescued]]:
        def steps() -> Steps[list[Rescued]]:
            rows = yield self.sql(
                "rescue_old", age=age, limit=limit, insert_channel=self.channels.insert
            )
            return read_rescued(rows)

        return PostgresOperation("rescue_old", steps)

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

    def forget_silent(self) -> PostgresOperation[int]:
        return self.counted("forget_silent", every=EVERY)

    def known_producers(self) -> PostgresOperation[list[KnownProducer]]:
        def steps() -> Steps[list[KnownProducer]]:
            rows = yield self.sql("list_producers")
            return [read_producer(row) for row in rows]

        return PostgresOperation("known_producers", steps, repeatable=True)


def pulse_row(pulse: Pulse) -> dict[str, object]:
    identity = pulse.identity
    return {
        "uuid": identity.uuid,
        "name": identity.name,
        "node": identity.node,
        "queue": identity.queue,
        "started_at": pulse.started_at.timestamp(),
        "meta": pulse.meta,
        "in_hand": key_rows(pulse.in_hand),
    }


def sighting_row(sighting: Sighting) -> dict[str, object]:
    return {
        "uuid": sighting.identity.uuid,
        "beat_at": sighting.beat_at,
        "max_age": sighting.max_age,
    }


def read_sighting(row: Sequence[Any]) -> Sighting:
    uuid, name, node, queue, max_age, beat_at = row
    return Sighting(ProducerIdentity(uuid, name, node, queue), beat_at, max_age)


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


def by_uuid(rows: Sequence[Sequence[Any]]) -> dict[str, frozenset[AttemptKey]]:
    keys: dict[str, set[AttemptKey]] = {}
    for uuid, identity, attempt in rows:
        keys.setdefault(uuid, set()).add((identity, attempt))
    return {uuid: frozenset(found) for uuid, found in keys.items()}


def read_rescued(rows: Rows) -> list[Rescued]:
    return [Rescued(row[0], row[1], row[2], row[3]) for row in rows]


def read_producer(row: Sequence[Any]) -> KnownProducer:
    uuid, name, node, queue, started_at, running_count, meta, beat_age, max_age = row
    return KnownProducer(
        identity=ProducerIdentity(uuid, name, node, queue),
        started_at=moment(started_at),
        running_count=running_count,
        meta=read_told(read_json("meta", meta, {}, [])),
        beat_age=beat_age,
        max_age=max_age,
    )
