"""The verbs that take attempts away from producers that died."""

from collections.abc import Sequence

from oban.engines.nodes import Sighting
from oban.engines.postgres.statements import PostgresOperation, Rows, Steps
from oban.engines.postgres.verbs import Verbs
from oban.engines.rescue import Rescued
from oban.fields import encode


class RescueVerbs(Verbs):
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

    def rescue_old(self, age: float, limit: int) -> PostgresOperation[list[Rescued]]:
        def steps() -> Steps[list[Rescued]]:
            rows = yield self.sql(
                "rescue_old", age=age, limit=limit, insert_channel=self.channels.insert
            )
            return read_rescued(rows)

        return PostgresOperation("rescue_old", steps)

    def attempts_of(self, uuids: Sequence[str]) -> PostgresOperation[list[int]]:
        def steps() -> Steps[list[int]]:
            return [row[0] for row in (yield self.sql("attempts_of", uuids=list(uuids)))]

        return PostgresOperation("attempts_of", steps, repeatable=True)


def sighting_row(sighting: Sighting) -> dict[str, object]:
    return {
        "uuid": sighting.identity.uuid,
        "beat_at": sighting.beat_at,
        "max_age": sighting.max_age,
    }


def read_rescued(rows: Rows) -> list[Rescued]:
    return [Rescued(row[0], row[1], row[2], row[3]) for row in rows]
