"""Any sequence of verbs does to the rows what the model says, and only by moves that are legal."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from tests.conftest import empty
from tests.engines.model import Model, ModelJob

from oban import Job, JobState
from oban.engines.nodes import Pulse, Report
from oban.engines.postgres import PostgresEngine
from oban.engines.postgres.connections.psycopg import SyncPsycopg
from oban.engines.postgres.drive import drive_sync
from oban.engines.postgres.statements import PostgresOperation
from oban.engines.runs import ProducerIdentity
from oban.errors import InvalidJob
from oban.outcome import Ack, AttemptKey
from oban.states import FINAL

T = TypeVar("T")

UUID = "5f1c30c2-3c3a-4a5e-8d53-0c6c7d8a9e0"
PRODUCERS = [ProducerIdentity(f"{UUID}{n}", "Oban", f"node{n}", "here") for n in range(2)]
STRANGER = f"{UUID}9"
QUEUES = ("here", "there")
HOUR = timedelta(hours=1)
MAX_CRASHES = 2

producers = st.sampled_from(PRODUCERS)
#: Which of what there is; they begin anew behind the last.
picks = st.lists(st.integers(0, 9), min_size=1, max_size=3)
times = st.sampled_from([None, -HOUR, HOUR])
outcomes = st.one_of(
    st.just({"state": JobState.COMPLETED, "meta": {"recorded": True}}),
    st.just({"state": JobState.RETRYABLE, "error": "no", "delay": 0.0}),
    st.just({"state": JobState.RETRYABLE, "error": "no", "delay": 3600.0}),
    st.just({"state": JobState.SCHEDULED, "delay": 0.0, "meta": {"snoozed": 1}, "counted": False}),
    st.just({"state": JobState.CANCELLED, "error": "no more"}),
    st.just({"state": JobState.DISCARDED, "error": "hopeless"}),
    st.just({"state": JobState.AVAILABLE, "counted": False}),
)


def report(pulses: Sequence[Pulse]) -> Report:
    return Report("Oban", "node", pulses, 10.0, candidate=None, lease=6.0)


class Verbs(RuleBasedStateMachine):
    connection: psycopg.Connection[Any]

    def __init__(self) -> None:
        super().__init__()
        self.engine = PostgresEngine("")
        self.model = Model()
        #: Every attempt that was ever claimed, and by whom: late acks come from here.
        self.attempts: list[tuple[ProducerIdentity, AttemptKey]] = []

    def run(self, operation: PostgresOperation[Any]) -> Any:
        return drive_sync(operation, SyncPsycopg(self.connection))

    def ids(self, picks: list[int]) -> list[int]:
        """Some jobs, and perhaps one that is not there."""
        return pick([*sorted(self.model.jobs), 10**6], picks)

    def keys(self, producer: ProducerIdentity, picks: list[int]) -> list[AttemptKey]:
        """Some attempts of this producer, running or over, each job once."""
        own = [key for owner, key in self.attempts[-10:] if owner == producer]
        running = [
            (job.id, job.attempt)
            for job in self.model.jobs.values()
            if job.owner == producer.uuid and job.is_busy()
        ]
        return list({key[0]: key for key in pick(own + running, picks)}.values())

    @initialize()
    def begin(self) -> None:
        empty(self.connection)
        for producer in PRODUCERS:
            self.register(producer)
        for priority in (1, 0, 2):
            self.insert(2, "here", priority, 2, None, suspended=False)

    # The verbs of a client

    @rule(
        number=st.integers(1, 3),
        queue=st.sampled_from(QUEUES),
        priority=st.integers(0, 2),
        max_attempts=st.integers(1, 3),
        due=times,
        suspended=st.booleans(),
    )
    def insert(
        self,
        number: int,
        queue: str,
        priority: int,
        max_attempts: int,
        due: timedelta | None,
        suspended: bool,
    ) -> None:
        job = Job(
            worker="W",
            queue=queue,
            priority=priority,
            max_attempts=max_attempts,
            scheduled_at=None if due is None else datetime.now(UTC) + due,
        )
        if suspended:
            job.state = JobState.SUSPENDED
        for stored in self.run(self.engine.insert([job] * number)):
            assert stored.state is job.state
            self.model.jobs[stored.id] = ModelJob(
                stored.id, stored.state, queue, priority, max_attempts, stored.scheduled_at
            )

    @rule(picks=picks)
    def cancel(self, picks: list[int]) -> None:
        ids = self.ids(picks)
        assert self.run(self.engine.cancel(ids)) == self.model.cancel(ids)

    @rule()
    def cancel_all(self) -> None:
        ids = sorted(self.model.jobs)
        assert self.run(self.engine.cancel(ids)) == self.model.cancel(ids)

    @rule(picks=picks)
    def retry(self, picks: list[int]) -> None:
        ids = self.ids(picks)
        assert self.run(self.engine.retry(ids)).ids == self.model.retry(ids)

    @rule(picks=picks)
    def delete(self, picks: list[int]) -> None:
        ids = self.ids(picks)
        assert self.run(self.engine.delete(ids)) == self.model.delete(ids)

    @rule(
        picks=picks,
        changes=st.fixed_dictionaries(
            {},
            optional={
                "queue": st.sampled_from(QUEUES),
                "priority": st.integers(0, 2),
                "max_attempts": st.integers(1, 3),
            },
        ),
        due=times,
    )
    def update(self, picks: list[int], changes: dict[str, Any], due: timedelta | None) -> None:
        ids = self.ids(picks)
        if due is not None:
            changes["scheduled_at"] = datetime.now(UTC) + due
        expected = self.model.update(ids, changes)
        operation = self.engine.update(ids, lambda _: changes)
        if expected is None:
            with pytest.raises(InvalidJob, match="max_attempts"):
                self.run(operation)
        else:
            assert sorted(job.id for job in self.run(operation)) == expected

    # The verbs of a node

    @rule(producer=producers)
    def register(self, producer: ProducerIdentity) -> None:
        self.run(self.engine.register(producer, 60.0))
        self.model.registered.add(producer.uuid)

    @rule(producer=producers)
    def forget(self, producer: ProducerIdentity) -> None:
        self.run(self.engine.forget([producer.uuid]))
        self.model.forget(producer.uuid)

    @rule(producer=producers, demand=st.integers(1, 3))
    def claim(self, producer: ProducerIdentity, demand: int) -> None:
        self.take_turn(producer, demand, [])

    @rule(producer=producers, picks=picks, outcome=outcomes)
    def acknowledge(
        self, producer: ProducerIdentity, picks: list[int], outcome: dict[str, Any]
    ) -> None:
        acks = [Ack(*key, **outcome) for key in self.keys(producer, picks)]
        self.take_turn(producer, 0, acks)

    @rule(producer=producers, demand=st.integers(0, 3), picks=picks, outcome=outcomes)
    def turn(
        self, producer: ProducerIdentity, demand: int, picks: list[int], outcome: dict[str, Any]
    ) -> None:
        acks = [Ack(*key, **outcome) for key in self.keys(producer, picks)]
        self.take_turn(producer, demand, acks)

    def take_turn(self, producer: ProducerIdentity, demand: int, acks: list[Ack]) -> None:
        expected = self.model.turn(producer.uuid, producer.queue, acks, demand)
        turn = self.run(self.engine.turn(producer, acks, demand))
        assert (turn.acknowledged, [job.id for job in turn.claimed]) == expected
        assert turn.held == frozenset()
        self.attempts += [(producer, (job.id, job.attempt)) for job in turn.claimed]

    @rule(queues=st.sets(st.sampled_from(QUEUES)))
    def stage(self, queues: set[str]) -> None:
        staged_count, discarded_count, available = self.model.stage(queues)
        staged = self.run(self.engine.stage(sorted(queues), 1000))
        assert (staged.staged_count, staged.discarded_count) == (staged_count, discarded_count)
        assert staged.available_queues == available

    @rule(producer=producers, picks=picks)
    def give_back(self, producer: ProducerIdentity, picks: list[int]) -> None:
        kept = self.keys(producer, picks)
        expected = self.model.give_back(producer.uuid, kept)
        assert self.run(self.engine.give_back(producer, kept)) == expected

    @rule(producer=producers, picks=picks)
    def stopped(self, producer: ProducerIdentity, picks: list[int]) -> None:
        running = self.keys(producer, picks)
        expected = self.model.stopped(producer.uuid, running)
        assert self.run(self.engine.stopped(producer, running)) == expected

    @rule(producer=producers, begun=st.booleans())
    def die(self, producer: ProducerIdentity, begun: bool) -> None:
        """It beats once more, and another sees that beat and none after it."""
        ids = [job.id for job in self.model.jobs.values() if job.owner == producer.uuid]
        meta = {"running": ids if begun else [], "processed_at": 9e12}
        pulse = Pulse(producer, datetime.now(UTC), meta, [])
        self.run(self.engine.beat(report([pulse])))
        self.model.registered.add(producer.uuid)
        silent = [
            each
            for each in self.run(self.engine.beat(report([]))).others
            if each.identity.uuid == producer.uuid
        ]
        assert len(silent) == 1
        rescued = self.run(self.engine.rescue(silent, MAX_CRASHES, 1000))
        expected = self.model.rescue(producer.uuid, begun=begun, max_crashes=MAX_CRASHES)
        assert sorted(each.id for each in rescued) == expected
        assert self.run(self.engine.rescue(silent, MAX_CRASHES, 1000)) == []

    # What others do

    @rule(picks=picks)
    def claim_elsewhere(self, picks: list[int]) -> None:
        ids = self.ids(picks)
        self.connection.execute(
            "update oban_jobs set state = 'executing', attempt = attempt + 1, attempted_by = %s "
            "where id = any(%s) and state = 'available' and attempt < max_attempts",
            [["elixir", STRANGER], ids],
        )
        self.model.claim_elsewhere(STRANGER, ids)

    @rule(picks=picks)
    def cancel_elsewhere(self, picks: list[int]) -> None:
        ids = self.ids(picks)
        self.connection.execute(
            "update oban_jobs set state = 'cancelled' where id = any(%s) and state = 'executing'",
            [ids],
        )
        self.model.cancel_elsewhere(ids)

    @rule(picks=picks)
    def exhaust(self, picks: list[int]) -> None:
        ids = self.ids(picks)
        self.connection.execute(
            "update oban_jobs set attempt = max_attempts "
            "where id = any(%s) and state = 'available'",
            [ids],
        )
        self.model.exhaust(ids)

    @invariant()
    def the_rows_are_what_the_model_says(self) -> None:
        rows = self.connection.execute(ROWS).fetchall()
        assert [row[0] for row in rows] == sorted(self.model.jobs)
        for identity, state, queue, priority, most, scheduled_at, *rest in rows:
            expected = self.model.jobs[identity]
            # The clock is the database's, and the model's from here on.
            expected.scheduled_at = scheduled_at.replace(tzinfo=UTC)
            assert expected == ModelJob(
                identity, JobState(state), queue, priority, most, expected.scheduled_at, *rest[:-1]
            )
            assert rest[-1] == (state in FINAL)
        owners = self.connection.execute("select uuid::text from oban_owners").fetchall()
        assert {uuid for (uuid,) in owners} == self.model.registered


#: The fields of a ModelJob, and whether the row says since when its state is final.
ROWS = """
select
  id, state::text, queue, priority, max_attempts, scheduled_at, attempt, meta,
  coalesce(jsonb_array_length(to_jsonb(errors)), 0), attempted_by[2], stopping_at is not null,
  case state::text
    when 'completed' then completed_at
    when 'cancelled' then coalesce(cancelled_at, '-infinity')
    when 'discarded' then discarded_at
  end is not null
from oban_jobs order by id
"""


def pick(choices: Sequence[T], picks: list[int]) -> list[T]:
    return [choices[each % len(choices)] for each in picks] if choices else []


@pytest.fixture
def verbs(oban_dsn: str) -> Iterator[type[Verbs]]:
    with psycopg.connect(oban_dsn, autocommit=True) as opened:

        class Here(Verbs):
            connection = opened

        yield Here


@pytest.mark.timeout(600)  # time to find the shortest sequence, where there is one
def test_any_sequence_of_verbs_does_what_the_model_says(verbs: type[Verbs], kind: str) -> None:
    run_state_machine_as_test(
        verbs,
        settings=settings(
            max_examples=50 if kind == "own" else 15,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_an_earlier_attempt_that_is_acknowledged_late_changes_nothing(verbs: type[Verbs]) -> None:
    """Chance rarely finds it: the same producer runs the job again by then."""
    machine, producer = verbs(), PRODUCERS[0]
    machine.begin()
    machine.take_turn(producer, 1, [])
    machine.the_rows_are_what_the_model_says()
    ((_, first),) = machine.attempts
    machine.take_turn(producer, 0, [Ack(*first, JobState.RETRYABLE, error="no", delay=0.0)])
    machine.the_rows_are_what_the_model_says()
    machine.stage({"here"})
    machine.the_rows_are_what_the_model_says()
    machine.take_turn(producer, 6, [])
    assert (producer, (first[0], first[1] + 1)) in machine.attempts
    machine.take_turn(producer, 0, [Ack(*first, JobState.COMPLETED)])
    machine.the_rows_are_what_the_model_says()
