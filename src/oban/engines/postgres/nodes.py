"""The verbs of a process among others: its producers' records, and its heartbeat."""

import json
from collections.abc import Sequence
from typing import Any

from oban.engines.commands import EVERY
from oban.engines.nodes import Beat, KnownProducer, Lease, Pulse, Report, Sighting
from oban.engines.postgres.commands import read_intent
from oban.engines.postgres.rows import moment, read_json
from oban.engines.postgres.runs import key_rows
from oban.engines.postgres.statements import PostgresOperation, Steps
from oban.engines.postgres.verbs import Verbs
from oban.engines.runs import ProducerIdentity
from oban.engines.told import read_told
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

    def known_producers(self) -> PostgresOperation[list[KnownProducer]]:
        def steps() -> Steps[list[KnownProducer]]:
            rows = yield self.sql("list_producers")
            return [read_producer(row) for row in rows]

        return PostgresOperation("known_producers", steps, repeatable=True)

    def forget_silent(self) -> PostgresOperation[int]:
        return self.counted("forget_silent", every=EVERY)


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


def read_sighting(row: Sequence[Any]) -> Sighting:
    uuid, name, node, queue, max_age, beat_at = row
    return Sighting(ProducerIdentity(uuid, name, node, queue), beat_at, max_age)


def by_uuid(rows: Sequence[Sequence[Any]]) -> dict[str, frozenset[AttemptKey]]:
    keys: dict[str, set[AttemptKey]] = {}
    for uuid, identity, attempt in rows:
        keys.setdefault(uuid, set()).add((identity, attempt))
    return {uuid: frozenset(found) for uuid, found in keys.items()}


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
