"""A small application that uses workers in every way a type checker is to accept."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypedDict, assert_type

from oban import Cancel, Job, Oban, Record, Worker, current_job, job, worker


@worker(queue="mailers", max_attempts=5, tags=["mail"], meta={"team": "growth"})
class MailerWorker(Worker):
    async def process(self, job: Job) -> Record | Cancel:
        if job.cancelled():
            return Cancel("asked to stop")
        return Record(job.args["to"])

    def backoff(self, job: Job) -> float:
        return 30 * job.attempt


@worker
class ReportWorker(Worker):
    def process(self, job: Job) -> None:
        print(job.args)


@worker(oban="Other")
class PlainWorker:
    async def process(self, job: Job) -> None: ...


@job(queue="default", schedule_in=timedelta(minutes=1))
def send_email(to: str, subject: str = "Hi") -> int:
    return len(to) + len(subject)


@job
async def fetch(url: str, /, *, depth: int = 1, queue: bool = False) -> bytes:
    return url.encode() * depth


@worker(executor="process", timeout=600, deadline=timedelta(hours=1))
class TranscodeWorker(Worker):
    def process(self, job: Job) -> Record:
        return Record(job.resources["model"])


@job(executor="thread", timeout=1.5)
def sweep(folder: str) -> int | None:
    running = current_job()
    return None if running is None else running.id


@contextmanager
def model() -> Iterator[str]:
    yield "a model"


@asynccontextmanager
async def client() -> AsyncIterator[object]:
    yield object()


def with_resources() -> Oban:
    return Oban(
        pool="dbname=shop",
        process_pool_size=2,
        resources={"model": model, "client": client, "named": "shop.resources:model"},
    )


def with_classes() -> None:
    TranscodeWorker.new({}, timeout=5, deadline=datetime.now(UTC))
    assert_type(sweep.new("/tmp/x", timeout=timedelta(seconds=5)), Job)
    assert_type(sweep.new("/tmp/x", deadline=60), Job)
    assert_type(MailerWorker.new({"to": "a@b.c"}), Job)
    assert_type(MailerWorker.new(), Job)
    MailerWorker.new({"to": "a"}, queue="urgent", priority=1, max_attempts=3, tags={"a"})
    MailerWorker.new({}, scheduled_at=datetime.now(UTC), meta={"a": 1})
    assert_type(MailerWorker.enqueue_sync({"to": "a"}, conn=None, schedule_in=1.5), Job)
    assert_type(MailerWorker.enqueue_many_sync([{"to": "a"}], priority=2), list[Job])
    assert_type(MailerWorker.options(priority=1).new({"to": "a"}, queue="x"), Job)
    assert_type(MailerWorker(), MailerWorker)
    assert_type(MailerWorker().backoff(ReportWorker.new()), float)
    assert_type(PlainWorker(), PlainWorker)
    anything: Worker = ReportWorker()
    assert isinstance(anything, ReportWorker)


@dataclass
class Invoice:
    to: str
    total: int = 0


class Parcel(TypedDict):
    weight: float


@worker(discard_on=ValueError, retry_on={OSError: 5, (KeyError, EOFError): [1, 2]})
class InvoiceWorker(Worker[Invoice]):
    async def process(self, job: Job[Invoice]) -> str:
        return job.args.to


@worker()
class ParcelWorker(Worker[Parcel]):
    def process(self, job: Job[Parcel]) -> float:
        return job.args["weight"]


def with_types() -> None:
    assert_type(InvoiceWorker.new(Invoice("ada")), Job)
    InvoiceWorker.options(priority=1).new(Invoice("ada"))
    ParcelWorker.new({"weight": 1.0})
    ParcelWorker.options(priority=1).new({"weight": 1.0})


class SpecialMailer(MailerWorker):
    async def process(self, job: Job) -> Record:
        return Record(1)


def with_functions() -> None:
    assert_type(send_email("a@b.c"), int)
    assert_type(send_email.new("a@b.c"), Job)
    assert_type(send_email.new("a@b.c", subject="Yo", schedule_in=60), Job)
    send_email.new(to="a@b.c", priority=1, queue="urgent", tags=["a"])
    assert_type(send_email.enqueue_sync("a@b.c", conn=object()), Job)
    assert_type(send_email.enqueue_many_sync([{"to": "a"}], priority=1), list[Job])
    urgent = send_email.options(priority=1, queue="urgent", conn=object())
    assert_type(urgent.new("a@b.c", subject="Yo"), Job)
    fetch.new("https://example.org", depth=2, queue=True)
    print(send_email.__name__)


async def awaited() -> None:
    assert_type(await MailerWorker.enqueue({"to": "a"}), Job)
    assert_type(await MailerWorker.enqueue_many({"to": to} for to in "ab"), list[Job])
    assert_type(await MailerWorker.options(priority=1).enqueue({"to": "a"}, conn=None), Job)
    assert_type(await send_email.enqueue("a@b.c", subject="Yo"), Job)
    assert_type(await send_email.enqueue("a@b.c", schedule_in=timedelta(hours=1)), Job)
    assert_type(await send_email.options(priority=1).enqueue("a@b.c"), Job)
    assert_type(await send_email.enqueue_many([{"to": "a"}]), list[Job])
    assert_type(await fetch("https://example.org"), bytes)


if __name__ == "__main__":
    with_classes()
    with_functions()
    with_types()
    asyncio.run(awaited())
