"""The verbs of a process among others: heartbeats, and the rescue of those that fell silent."""

import json
from collections.abc import Sequence
from typing import Any

from oban.engines.postgres.rows import moment
from oban.engines.postgres.runs import key_rows
from oban.engines.postgres.statements import PostgresOperation, Rows, Steps
from oban.engines.postgres.verbs import Verbs
from oban.engines.values import Beat, KnownProducer, ProducerIdentity, Pulse, Rescued, Sighting
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

    def beat(self, pulses: Sequence[Pulse], max_age: float) -> PostgresOperation[Beat]:
        # In one order in all statements, so that a beat and a rescue cannot wait for each other.
        ordered = sorted(pulses, key=lambda pulse: pulse.identity.uuid)
        payload = encode([pulse_row(pulse) for pulse in ordered])

        def steps() -> Steps[Beat]:
            ((lost, astray, others),) = yield self.sql("beat", pulses=payload, max_age=max_age)
            return Beat(
                lost=by_uuid(json.loads(lost)),
                astray=frozenset(str(uuid) for uuid in astray),
                others=tuple(read_sighting(row) for row in json.loads(others)),
            )

        return PostgresOperation("beat", steps, repeatable=True)

    def rescue(
        self, silent: Sequence[Sighting], max_crashes: int, limit: int
    ) -> PostgresOperation[list[Rescued]]:
        payload = encode([sighting_row(each) for each in silent])

        def steps() -> Steps[list[Rescued]]:
            rows = yield self.sql(
                "rescue_attempts",
                silent=payload,
                max_crashes=max_crashes,
                limit=limit,
                insert_channel=self.channels.insert,
            )
            return read_rescued(rows)

        return PostgresOperation("rescue", steps)

    def rescue_old(self, age: float, limit: int) -> PostgresOperation[list[Rescued]]:
        def steps() -> Steps[list[Rescued]]:
            rows = yield self.sql(
                "rescue_old", age=age, limit=limit, insert_channel=self.channels.insert
            )
            return read_rescued(rows)

        return PostgresOperation("rescue_old", steps)

    def forget_silent(self) -> PostgresOperation[int]:
        return self.counted("forget_silent")

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


def by_uuid(rows: Sequence[Sequence[Any]]) -> dict[str, frozenset[AttemptKey]]:
    keys: dict[str, set[AttemptKey]] = {}
    for uuid, identity, attempt in rows:
        keys.setdefault(uuid, set()).add((identity, attempt))
    return {uuid: frozenset(found) for uuid, found in keys.items()}


def read_rescued(rows: Rows) -> list[Rescued]:
    return [Rescued(row[0], row[1], row[2], row[3]) for row in rows]


def read_producer(row: Sequence[Any]) -> KnownProducer:
    uuid, name, node, queue, started_at, running_count, meta, beat_age, max_age = row
    told = json.loads(meta) if meta else {}
    return KnownProducer(
        identity=ProducerIdentity(uuid, name, node, queue),
        started_at=moment(started_at),
        running_count=running_count,
        # Another package may write the table too.
        meta=told if isinstance(told, dict) else {},
        beat_age=beat_age,
        max_age=max_age,
    )
