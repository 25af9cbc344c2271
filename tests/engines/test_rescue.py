"""What becomes of the jobs of a producer that fell silent, and of nobody else's."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from tests.running.support import named

from oban import Job
from oban.engines.nodes import Beat, Pulse, Report, Sighting
from oban.engines.postgres import PostgresEngine
from oban.engines.rescue import Fate, Rescued
from oban.engines.runs import ProducerIdentity
from oban.options import LifelineOptions
from oban.outcome import Ack, AttemptKey
from oban.running.lifeline import Lifeline
from oban.states import JobState

MAX_AGE = 10.0
OBSERVER = ProducerIdentity(str(uuid4()), "Oban", "observer", "default")

Executing = Callable[..., None]


def dying() -> ProducerIdentity:
    return ProducerIdentity(str(uuid4()), "Oban", "dying", "default")


def pulse(identity: ProducerIdentity, running: Sequence[Job] = (), **meta: Any) -> Pulse:
    return Pulse(
        identity,
        datetime.now(UTC),
        {"running": [job.id for job in running], **meta},
        [(job.id, job.attempt) for job in running if job.id is not None],
    )


class Cluster:
    """An engine, driven as a node drives it."""

    def __init__(self, engine: PostgresEngine) -> None:
        self.engine = engine

    async def beat(self, *pulses: Pulse) -> Beat:
        report = Report("Oban", "node", pulses, MAX_AGE, candidate=None, lease=6.0)
        return await self.engine.execute(self.engine.beat(report))

    async def look(self) -> tuple[Sighting, ...]:
        return (await self.beat(pulse(OBSERVER))).others

    async def claim(self, identity: ProducerIdentity, count: int = 1, **job: Any) -> list[Job]:
        await self.engine.execute(self.engine.insert([Job(worker="w", **job)] * count))
        turn = await self.engine.execute(self.engine.turn(identity, [], count))
        assert len(turn.claimed) == count
        return list(turn.claimed)

    async def rescue(
        self, silent: Sequence[Sighting], max_crashes: int = 5, limit: int = 1000
    ) -> list[Rescued]:
        return await self.engine.execute(self.engine.rescue(silent, max_crashes, limit))

    async def fates(self, silent: Sequence[Sighting], max_crashes: int = 5) -> Mapping[int, Fate]:
        return {each.id: each.fate for each in await self.rescue(silent, max_crashes)}

    async def get(self, job: Job) -> Job:
        assert job.id is not None
        (found,) = await self.engine.execute(self.engine.get([job.id]))
        return found


@pytest.fixture
def cluster(engine: PostgresEngine) -> Cluster:
    return Cluster(engine)


async def test_a_beat_records_its_producers_so_that_they_may_claim(cluster: Cluster) -> None:
    owner = dying()
    await cluster.beat(pulse(owner))
    assert await cluster.claim(owner)


async def test_a_beat_tells_of_the_others_that_beat_or_run_something(
    cluster: Cluster, oban_dsn: str
) -> None:
    idle, busy, gone = dying(), dying(), dying()
    await cluster.beat(pulse(idle), pulse(busy), pulse(gone))
    await cluster.claim(busy)
    first = {each.identity: each for each in await cluster.look()}
    assert set(first) == {idle, busy, gone}
    await cluster.beat(pulse(idle))
    second = {each.identity: each for each in await cluster.look()}
    assert second[idle].beat_at != first[idle].beat_at
    assert second[busy] == first[busy]
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute("truncate oban_producers")  # as a crash of the database does
    third = {each.identity: each for each in await cluster.look()}
    assert third == {busy: replace(first[busy], beat_at=None)}


async def test_a_beat_tells_what_is_no_longer_its_to_run(cluster: Cluster) -> None:
    owner = dying()
    await cluster.beat(pulse(owner))
    kept, cancelled, deleted, done = jobs = await cluster.claim(owner, 4)
    told = pulse(owner, jobs)
    assert (await cluster.beat(told)).lost == {}
    engine = cluster.engine
    assert cancelled.id is not None
    await engine.execute(engine.cancel([cancelled.id]))
    await engine.execute(engine.turn(owner, [Ack(deleted.id or 0, 1, JobState.COMPLETED)], 0))
    assert await engine.execute(engine.delete([deleted.id or 0])) == [deleted.id]
    await engine.execute(
        engine.turn(owner, [Ack(done.id or 0, 1, JobState.RETRYABLE, error="no", delay=0.0)], 0)
    )
    lost: set[AttemptKey] = {(job.id or 0, 1) for job in (cancelled, deleted, done)}
    assert (await cluster.beat(told)).lost == {owner.uuid: lost}
    assert (await cluster.get(kept)).state == "executing"


async def test_a_beat_finds_rows_that_nobody_has_in_hand_but_no_newer_claims(
    cluster: Cluster,
) -> None:
    owner = dying()
    await cluster.beat(pulse(owner))
    (first,) = await cluster.claim(owner)
    assert first.attempted_at is not None
    at = first.attempted_at.timestamp()
    assert (await cluster.beat(pulse(owner, processed_at=at))).astray == {owner.uuid}
    assert (await cluster.beat(pulse(owner, [first], processed_at=at))).astray == frozenset()
    assert (await cluster.beat(pulse(owner))).astray == frozenset()
    await cluster.claim(owner)
    assert (await cluster.beat(pulse(owner, [first], processed_at=at))).astray == frozenset()


async def test_a_job_that_ran_goes_back_counted_and_with_an_error(cluster: Cluster) -> None:
    owner = dying()
    await cluster.beat(pulse(owner))
    (job,) = await cluster.claim(owner, meta={"kept": True})
    await cluster.beat(pulse(owner, [job]))
    assert await cluster.fates(await cluster.look()) == {job.id: "rescued"}
    found = await cluster.get(job)
    assert (found.state, found.attempt) == ("available", 1)
    assert found.meta == {"kept": True, "crashes": 1}
    (error,) = found.errors
    assert error["attempt"] == 1
    assert "on node dying has died or was cut off, after 10.0 s" in error["error"]
    assert [each.identity for each in await cluster.look()] == []


async def test_at_the_last_attempt_it_is_discarded(cluster: Cluster) -> None:
    owner = dying()
    await cluster.beat(pulse(owner))
    (job,) = await cluster.claim(owner, max_attempts=1)
    await cluster.beat(pulse(owner, [job]))
    assert await cluster.fates(await cluster.look()) == {job.id: "exhausted"}
    found = await cluster.get(job)
    assert found.state == "discarded"
    assert found.discarded_at is not None
    assert "It was the last attempt" in found.errors[0]["error"]


async def test_what_had_not_begun_goes_back_uncounted(cluster: Cluster) -> None:
    owner = dying()
    await cluster.beat(pulse(owner))
    began, waiting = await cluster.claim(owner, 2)
    assert began.attempted_at is not None
    late = await cluster.claim(owner)
    at = began.attempted_at.timestamp()
    await cluster.beat(pulse(owner, [began], processed_at=at))
    assert await cluster.fates(await cluster.look()) == {
        began.id: "rescued",
        waiting.id: "given back",
        late[0].id: "rescued",  # claimed after what the beat tells of: it may have begun
    }
    found = await cluster.get(waiting)
    assert (found.state, found.attempt, found.errors, found.meta) == ("available", 0, [], {})


async def test_a_death_while_shutting_down_is_no_crash(cluster: Cluster) -> None:
    owner = dying()
    await cluster.beat(pulse(owner))
    (job,) = await cluster.claim(owner, max_attempts=1)
    await cluster.beat(pulse(owner, [job], shutdown_started_at="2026-01-01T00:00:00+00:00"))
    assert await cluster.fates(await cluster.look()) == {job.id: "given back"}
    found = await cluster.get(job)
    assert (found.state, found.attempt, found.errors) == ("available", 0, [])


async def test_a_cancelled_job_is_let_go(cluster: Cluster) -> None:
    owner = dying()
    await cluster.beat(pulse(owner))
    (job,) = await cluster.claim(owner)
    engine = cluster.engine
    await engine.execute(engine.cancel([job.id or 0]))
    assert (await engine.execute(engine.retry([job.id or 0]))).ids == []
    assert await cluster.fates(await cluster.look()) == {job.id: "stopped"}
    found = await cluster.get(job)
    assert (found.state, found.errors) == ("cancelled", [])
    assert (await engine.execute(engine.retry([job.id or 0]))).ids == [job.id]


async def test_a_job_that_outlived_too_many_processes_is_a_suspect(cluster: Cluster) -> None:
    (job,) = await cluster.engine.execute(cluster.engine.insert([Job(worker="w")]))
    for crash in (1, 2, 3):
        owner = dying()
        await cluster.beat(pulse(owner))
        turn = await cluster.engine.execute(cluster.engine.turn(owner, [], 1))
        await cluster.beat(pulse(owner, turn.claimed))
        fate = "suspect" if crash == 3 else "rescued"
        assert await cluster.fates(await cluster.look(), max_crashes=3) == {job.id: fate}
        assert (await cluster.get(job)).meta == {"crashes": crash}
    found = await cluster.get(job)
    assert found.state == "discarded"
    assert "number 3 of those that died" in found.errors[-1]["error"]
    await cluster.engine.execute(cluster.engine.retry([job.id or 0]))
    assert (await cluster.get(job)).meta == {}


async def test_crashes_are_not_judged_where_that_is_off(cluster: Cluster) -> None:
    owner = dying()
    await cluster.beat(pulse(owner))
    (job,) = await cluster.claim(owner, meta={"crashes": 99})
    await cluster.beat(pulse(owner, [job]))
    assert await cluster.fates(await cluster.look(), max_crashes=0) == {job.id: "rescued"}


async def test_a_beat_that_came_meanwhile_saves_its_producer(cluster: Cluster) -> None:
    owner = dying()
    await cluster.beat(pulse(owner))
    (job,) = await cluster.claim(owner)
    silent = await cluster.look()
    await cluster.beat(pulse(owner, [job]))
    assert await cluster.rescue(silent) == []
    assert await cluster.rescue([replace(each, beat_at=None) for each in silent]) == []
    assert (await cluster.get(job)).state == "executing"


async def test_what_runs_under_a_uuid_without_our_record_is_left_alone(
    cluster: Cluster, oban_dsn: str
) -> None:
    owner = dying()
    await cluster.beat(pulse(owner))
    (job,) = await cluster.claim(owner)
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute("delete from oban_owners where uuid = %s", [owner.uuid])
    assert await cluster.look() == ()
    for beat_at in (None, 1.0):
        assert await cluster.rescue([Sighting(owner, beat_at, MAX_AGE)]) == []
    assert await cluster.engine.execute(cluster.engine.rescue_old(0.0, 10)) == []
    assert (await cluster.get(job)).state == "executing"


async def test_a_locked_row_is_left_for_the_next_time_and_so_is_its_producer(
    cluster: Cluster, oban_dsn: str
) -> None:
    owner = dying()
    await cluster.beat(pulse(owner))
    free, locked = jobs = await cluster.claim(owner, 2)
    await cluster.beat(pulse(owner, jobs))
    silent = await cluster.look()
    with psycopg.connect(oban_dsn) as connection:
        connection.execute("select from oban_jobs where id = %s for update", [locked.id])
        assert await cluster.fates(silent) == {free.id: "rescued"}
        assert await cluster.look() == silent
        assert await cluster.fates(silent) == {}
    assert await cluster.fates(silent) == {locked.id: "rescued"}
    assert await cluster.look() == ()


async def test_many_attempts_are_rescued_in_parts(cluster: Cluster) -> None:
    owner = dying()
    await cluster.beat(pulse(owner))
    await cluster.claim(owner, 25)
    silent = await cluster.look()
    assert [len(await cluster.rescue(silent, limit=10)) for _ in range(4)] == [10, 10, 5, 0]
    assert await cluster.look() == ()


async def test_a_meta_that_is_no_object_holds_up_nothing(cluster: Cluster, oban_dsn: str) -> None:
    owner = dying()
    await cluster.beat(pulse(owner))
    jobs = await cluster.claim(owner, 4)
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        for job, meta in zip(jobs, ("[]", '"x"', '{"crashes": "many"}', '{"crashes": 1e300}')):
            connection.execute("update oban_jobs set meta = %s where id = %s", [meta, job.id])
    fates = await cluster.fates(await cluster.look())
    found = [fates[job.id or 0] for job in jobs]
    assert found == ["rescued", "rescued", "rescued", "suspect"]


@pytest.mark.parametrize("value", ['"soon"', "{}", "null", "[1]"])
async def test_a_heartbeat_that_somebody_has_spoilt_holds_up_no_rescue(
    cluster: Cluster, oban_dsn: str, value: str
) -> None:
    owner = dying()
    await cluster.beat(pulse(owner))
    (job,) = await cluster.claim(owner)
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        spoilt = f'{{"processed_at": {value}, "running": {value}}}'
        connection.execute(
            "update oban_producers set meta = %s where uuid = %s", [spoilt, owner.uuid]
        )
    assert await cluster.fates(await cluster.look()) == {job.id: "rescued"}


async def test_what_is_too_old_is_taken_from_the_living_where_that_is_asked_for(
    cluster: Cluster, oban_dsn: str
) -> None:
    owner = dying()
    await cluster.beat(pulse(owner))
    old, young, last = await cluster.claim(owner, 3)
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute(
            "update oban_jobs set attempted_at = attempted_at - interval '1 hour', "
            "max_attempts = case when id = %s then 1 else 20 end where id <> %s",
            [last.id, young.id],
        )
    rescued = await cluster.engine.execute(cluster.engine.rescue_old(3000, 10))
    assert {each.id: each.fate for each in rescued} == {old.id: "rescued", last.id: "exhausted"}
    assert "rescue_after" in (await cluster.get(old)).errors[0]["error"]
    assert (await cluster.get(young)).state == "executing"


async def test_a_record_is_forgotten_after_a_day_of_silence_but_never_while_a_job_needs_it(
    cluster: Cluster, oban_dsn: str
) -> None:
    _, needed, living, young = producers = [dying() for _ in range(4)]
    await cluster.beat(*(pulse(each) for each in producers))
    await cluster.claim(needed)
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute("truncate oban_producers")
        connection.execute(
            "update oban_owners set seen_at = now() - interval '25 hours' where uuid <> %s",
            [young.uuid],
        )
        await cluster.beat(pulse(living))
        assert await cluster.engine.execute(cluster.engine.forget_silent()) == 1
        left = connection.execute("select uuid::text from oban_owners").fetchall()
    assert {uuid for (uuid,) in left} == {needed.uuid, living.uuid, young.uuid}


@pytest.fixture
def stubborn(oban_dsn: str) -> Iterator[Callable[[Job], None]]:
    """Have somebody's trigger refuse every change of a job."""
    connection = psycopg.connect(oban_dsn, autocommit=True)

    def refuse(job: Job) -> None:
        connection.execute(
            "create or replace function refuse() returns trigger language plpgsql as $$ begin "
            f"if old.id = {job.id} then raise 'not this one'; end if; return new; end $$".encode()
        )
        connection.execute(
            "create trigger refuse before update on oban_jobs "
            "for each row execute function refuse()"
        )

    yield refuse
    connection.execute("drop trigger if exists refuse on oban_jobs")
    connection.close()


async def test_a_job_that_the_database_refuses_to_change_keeps_no_other_from_its_rescue(
    cluster: Cluster, stubborn: Callable[[Job], None], events: list[Any]
) -> None:
    owner = dying()
    await cluster.beat(pulse(owner))
    jobs = await cluster.claim(owner, 5)
    stubborn(jobs[2])
    lifeline = Lifeline(cluster.engine, cluster.engine.session("t"), LifelineOptions(), 3.0)
    silent = [each for each in await cluster.look() if each.identity == owner]
    await lifeline.rescue(silent)
    await lifeline.session.close()
    states = [(await cluster.get(job)).state for job in jobs]
    assert states == ["available"] * 2 + ["executing"] + ["available"] * 2
    (refused,) = named(events, "oban.lifeline.refused")
    assert refused["job_id"] == jobs[2].id
    assert "not this one" in refused["error_message"]
    assert owner.uuid in lifeline.refused
