"""Arguments that are encrypted: who sees them, and who does not."""

import io
import json
import logging
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest
from cryptography.fernet import Fernet
from tests.roads import direct
from tests.running.in_processes import Hidden
from tests.running.support import Running, reached

from oban import Cancel, Discard, Job, Oban, Snooze, Worker, current_job, job, telemetry, worker
from oban.engines.reads import JobFilter
from oban.errors import InvalidJob, InvalidOption
from oban.options import Options
from oban.testing import assert_enqueued, drain_queue, mode, process_job

#: What nobody is to find.
SECRET = "4111-1111-1111-1111"
KEY, OLD_KEY = (urlsafe_b64encode(each * 32).decode() for each in (b"n", b"o"))
SEEN: list[Any] = []


@worker(encrypted=True, max_attempts=2)
class Charge(Worker):
    async def process(self, job: Job) -> Any:
        current = current_job()
        assert current is not None
        SEEN.append((job.args["card"], current.args["card"]))
        match job.args["do"]:
            case "fail":
                raise ValueError("the bank is closed")
            case "cancel":
                return Cancel("not any more")
            case "discard":
                return Discard("never")
            case "snooze":
                return Snooze(60)

    def backoff(self, job: Job) -> float:
        SEEN.append(job.args["card"])
        return 60


@dataclass
class Card:
    card: str
    cents: int


@worker(encrypted=True)
class TypedCharge(Worker[Card]):
    def process(self, job: Job[Card]) -> None:
        SEEN.append(job.args.card)


@worker(encrypted=True, unique={"fields": ["worker", "meta"], "keys": ["order"]})
class OneOfEach(Worker):
    async def process(self, job: Job) -> None: ...


@job(encrypted=True)
def charge_card(card: str) -> None:
    SEEN.append(card)


@pytest.fixture(autouse=True)
def fresh() -> None:
    SEEN.clear()


@pytest.fixture
def told() -> Iterator[io.StringIO]:
    """Everything that is logged, and whatever a handler can get hold of."""
    heard = io.StringIO()
    loggers = []
    for form in ("json", "text"):
        logger = logging.getLogger(f"test {form}")
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        logger.addHandler(logging.StreamHandler(heard))
        telemetry.logger.attach(level=logging.DEBUG, logger=logger, format=form, args=True)
        loggers.append(logger)

    def note(name: str, metadata: telemetry.Metadata) -> None:
        seen = metadata.get("job")
        heard.write(f"{name} {metadata!r} {seen and (seen.args, seen.meta, seen.errors)}\n")

    telemetry.attach("test", ["oban.job.*", "oban.producer.*"], note)
    yield heard
    telemetry.detach("test")
    telemetry.logger.detach()


def dump(dsn: str) -> str:
    """All rows of all our tables."""
    with psycopg.connect(direct(dsn), autocommit=True) as connection:
        query = "select tablename from pg_tables where tablename like 'oban%'"
        tables = [name for (name,) in connection.execute(query.encode())]
        assert "oban_jobs" in tables
        rows = [
            row
            for table in tables
            for (row,) in connection.execute(f"select row_to_json(t)::text from {table} t".encode())
        ]
    return "\n".join(rows)


async def test_what_is_secret_is_found_nowhere(
    running: Running, oban_dsn: str, told: io.StringIO
) -> None:
    async with running(encryption_keys=[KEY]) as oban:
        jobs = [
            await Charge.enqueue({"card": SECRET, "do": do})
            for do in ("succeed", "fail", "cancel", "discard", "snooze")
        ]
        jobs += await Charge.enqueue_many([{"card": SECRET, "do": "fail"}] * 3, max_attempts=1)
        jobs.append(await TypedCharge.enqueue(Card(SECRET, 5)))
        jobs.append(await charge_card.enqueue(SECRET))
        jobs.append(await oban.enqueue(replace(charge_card.new(SECRET), priority=3)))
        jobs.append(
            await oban.enqueue(Job(worker=charge_card.new("").worker, args={"card": SECRET}))
        )
        await oban.enqueue_stream(Charge.new({"card": SECRET, "do": "succeed"}) for _ in range(3))
        later = await Charge.enqueue({"card": SECRET, "do": "succeed"}, schedule_in=600)
        for _ in range(2):
            unique = await OneOfEach.enqueue({"card": SECRET}, meta={"order": 7})
        await oban.update_job(later, {"args": {"card": SECRET, "do": "fail"}})
        await oban.cancel_job(later)
        for each in jobs:
            ended = ("completed", "retryable", "cancelled", "discarded", "scheduled")
            found = await reached(oban, each, *ended)
            assert list(found.args) == ["encrypted"]
            told.write(f"{found!r} {found.args} {found.errors}")
        everything = await oban.list_jobs(JobFilter())
    assert len(everything) == 17
    assert unique.conflicted
    told.write(dump(oban_dsn))
    assert SECRET not in told.getvalue()
    assert "the bank is closed" in told.getvalue()
    assert SEEN.count((SECRET, SECRET)) >= 8
    assert SEEN.count(SECRET) >= 3


async def test_a_child_process_is_given_them(running: Running, oban_dsn: str) -> None:
    async with running(queues={"children": 1}, encryption_keys=[KEY]) as oban:
        hidden = await Hidden.enqueue({"card": SECRET})
        found = await reached(oban, hidden, "completed", "retryable", deadline=30)
        assert found.errors == []
        assert found.recorded() == len(SECRET)
    assert SECRET not in dump(oban_dsn)


async def test_keys_are_rotated(running: Running, oban_dsn: str) -> None:
    async with Oban(pool=oban_dsn, encryption_keys=[OLD_KEY]):
        old = await charge_card.enqueue("of old")
    async with running(encryption_keys=[KEY, OLD_KEY]) as oban:
        await reached(oban, old, "completed")
        new = await charge_card.enqueue("of new", schedule_in=600)
        token = new.args["encrypted"]
        assert Fernet(KEY).decrypt(token) == b'{"card":"of new"}'
    assert SEEN == ["of old"]


@pytest.mark.parametrize("keys", [[], [OLD_KEY]])
async def test_without_its_key_a_job_fails_alone(
    running: Running, oban_dsn: str, keys: list[str]
) -> None:
    async with Oban(pool=oban_dsn, encryption_keys=[KEY]):
        locked = await charge_card.enqueue(SECRET)
    async with running(encryption_keys=keys) as oban:
        found = await reached(oban, locked, "retryable")
    assert "are encrypted, and " in found.errors[0]["error"]
    assert "encryption_keys" in found.errors[0]["error"]
    assert SEEN == []


async def test_what_was_enqueued_in_the_clear_runs_too(running: Running, oban_dsn: str) -> None:
    with psycopg.connect(direct(oban_dsn), autocommit=True) as connection:
        connection.execute(
            "insert into oban_jobs (worker, args) values (%s, %s)",
            [charge_card.new("x").worker, json.dumps({"card": "in the clear"})],
        )
    async with running(encryption_keys=[KEY]) as oban:
        await reached(oban, 1, "completed")
    assert SEEN == ["in the clear"]


async def test_without_a_key_nothing_is_inserted(oban_dsn: str) -> None:
    async with Oban(pool=oban_dsn) as oban:
        for enqueue in (
            lambda: charge_card.enqueue(SECRET),
            lambda: oban.enqueue_many([Charge.new({"card": SECRET})]),
            lambda: oban.enqueue_stream([Charge.new({"card": SECRET})]),
        ):
            with pytest.raises(InvalidJob, match="no key; give it encryption_keys") as raised:
                await enqueue()
            assert SECRET not in str(raised.value)
        assert await oban.list_jobs(JobFilter()) == []


async def test_tests_run_them_too(oban_dsn: str) -> None:
    await process_job(Charge.new({"card": SECRET, "do": "succeed"}))
    async with Oban(pool=oban_dsn, encryption_keys=[KEY]) as oban:
        with mode("inline"):
            await Charge.enqueue({"card": SECRET, "do": "succeed"})
        await Charge.enqueue({"card": SECRET, "do": "succeed"})
        await assert_enqueued(worker=Charge, oban=oban)
        assert (await drain_queue(oban=oban))["completed"] == 1
    assert SEEN == [(SECRET, SECRET)] * 3


@pytest.mark.parametrize("args", [{"card": {SECRET}}, [SECRET], SECRET])
def test_a_refusal_shows_nothing_of_them(args: Any) -> None:
    for kind in (Charge, TypedCharge):
        with pytest.raises(InvalidJob) as raised:
            kind.new(args)
        assert SECRET not in str(raised.value)


def test_a_key_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(InvalidJob, match="a key over them would tell who guesses right"):

        @worker(encrypted=True, unique=True)
        class Guessable(Worker):
            def process(self, job: Job) -> None: ...

    with pytest.raises(InvalidJob, match="unique by its args"):
        Charge.new({"card": SECRET}, unique={"keys": ["card"]})


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["short"], r"encryption_keys\[0\] is no key"),
        ([KEY, "wrong"], r"encryption_keys\[1\] is no key: 32 bytes in URL-safe base64"),
        (KEY, "encryption_keys is a str that is not shown; it is a list"),
        ([5], r"encryption_keys\[0\] is a int that is not shown"),
    ],
)
def test_a_wrong_key_is_refused_and_not_shown(oban_dsn: str, keys: Any, said: str) -> None:
    with pytest.raises(InvalidOption, match=said) as raised:
        Oban(pool=oban_dsn, encryption_keys=keys, name="refused")
    assert KEY not in str(raised.value)
    assert "short" not in str(raised.value)


def test_keys_are_not_shown() -> None:
    assert KEY not in repr(Options(encryption_keys=(KEY,)))


@worker(encrypted=True)
class Careless(Worker):
    def process(self, job: Job) -> None:
        while not job.cancelled():
            time.sleep(0.01)
        raise ValueError("too late")

    def on_error(self, job: Job, error: BaseException) -> None:
        raise RuntimeError("of the hook")


async def test_what_happens_around_a_job_shows_nothing(running: Running, told: io.StringIO) -> None:
    async with running(encryption_keys=[KEY]) as oban:
        careless = await Careless.enqueue({"card": SECRET}, timeout=0.1)  # cancelled() is told
        await reached(oban, careless, "retryable")
    assert "oban.job.hook_failed" in told.getvalue()
    assert "oban.job.timeout" in told.getvalue()
    assert SECRET not in told.getvalue()


async def test_an_update_encrypts_and_shows_nothing(oban_dsn: str) -> None:
    async with Oban(pool=oban_dsn, encryption_keys=[KEY]) as oban:
        job = await Charge.enqueue({"card": "old"}, schedule_in=60)
        plain = await oban.enqueue(Job(worker="app.Plain", args={"x": 1}))
        mistakes: list[Any] = [SECRET, [SECRET], None, {"card": {SECRET}}]
        for mistake in mistakes:
            for change in ({"args": mistake}, lambda _, args=mistake: {"args": args}):
                with pytest.raises(InvalidJob) as raised:
                    await oban.update_job(job, change)
                assert SECRET not in repr(raised.value)
        for target, change in (
            (job, {"args": {"card": SECRET}}),
            (job, {"args": {"encrypted": SECRET}}),
            (plain, {"worker": job.worker, "args": {"card": SECRET}}),
        ):
            updated = await oban.update_job(target, change)
            assert updated is not None
            assert list(updated.args) == ["encrypted"]
    assert SECRET not in dump(oban_dsn)


async def test_what_was_changed_after_it_was_built_is_refused_without_showing_it(
    oban_dsn: str,
) -> None:
    async with Oban(pool=oban_dsn, encryption_keys=[KEY]) as oban:
        for value in ("\ud800", object()):
            job = Charge.new({"card": SECRET})
            job.args["more"] = value
            with pytest.raises(InvalidJob) as raised:
                await oban.enqueue(job)
            assert SECRET not in repr(raised.value)
            assert raised.value.__context__ is None
        unique = Job(worker=job.worker, args={"card": SECRET}, unique=True)
        with pytest.raises(InvalidJob, match="unique by its args"):
            await oban.enqueue(unique)
