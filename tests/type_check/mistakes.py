"""What a type checker is to refuse. Strict mypy also reports an ignore that hides no error."""

from tests.type_check.application import (
    Invoice,
    InvoiceWorker,
    MailerWorker,
    Parcel,
    ParcelWorker,
    PlainWorker,
    fetch,
    send_email,
)

from oban import Job, Oban, Worker, job, worker


def with_classes() -> None:
    MailerWorker.new(5)  # type: ignore[arg-type]
    MailerWorker.new("a@b.c")  # type: ignore[arg-type]
    MailerWorker.new({}, priority="high")  # type: ignore[arg-type]
    MailerWorker.new({}, prioritty=1)  # type: ignore[call-arg]
    MailerWorker.new({}, conn=None)  # type: ignore[call-arg]
    MailerWorker.new({}, unique="yes")  # type: ignore[arg-type]
    MailerWorker.new({}, unique={"perod": 60})  # type: ignore[arg-type]
    MailerWorker.new({}, timeout="soon")  # type: ignore[arg-type]
    MailerWorker.new({}, deadline="soon")  # type: ignore[arg-type]
    MailerWorker.new({}, executor="thread")  # type: ignore[call-arg]
    Oban(pool="dbname=shop", resources={"http": 5})  # type: ignore[dict-item]
    MailerWorker.enqueue_sync(args={})  # type: ignore[call-arg]
    MailerWorker.enqueue_many_sync({"to": "a"})  # type: ignore[dict-item]
    MailerWorker.options(queue=5)  # type: ignore[arg-type]
    MailerWorker.options(priority=1).new(5)  # type: ignore[arg-type]
    MailerWorker().backoff("job")  # type: ignore[arg-type]
    PlainWorker.new({})  # type: ignore[attr-defined]


def with_types() -> None:
    InvoiceWorker.new(Invoice(to=5))  # type: ignore[arg-type]
    InvoiceWorker.new(Invoice(too="ada"))  # type: ignore[call-arg]
    InvoiceWorker.new({"to": "ada"})  # type: ignore[arg-type]
    InvoiceWorker.options(priority=1).new({"to": "ada"})  # type: ignore[arg-type]
    InvoiceWorker.enqueue_many_sync([Parcel(weight=1)])  # type: ignore[list-item]
    ParcelWorker.new({"wieght": 1.0})  # type: ignore[arg-type]
    ParcelWorker.enqueue_sync({"weight": "heavy"})  # type: ignore[arg-type]

    @worker()
    class OtherType(Worker[Invoice]):
        def process(self, job: Job[Parcel]) -> None: ...  # type: ignore[override]


def with_functions() -> None:
    send_email(5)  # type: ignore[arg-type]
    send_email.new(5)  # type: ignore[call-overload]
    send_email.new()  # type: ignore[call-overload]
    send_email.new("a@b.c", subject=3)  # type: ignore[call-overload]
    send_email.new("a@b.c", sbject="Yo")  # type: ignore[call-overload]
    send_email.new("a@b.c", priority="high")  # type: ignore[call-overload]
    send_email.new("a@b.c", conn=None)  # type: ignore[call-overload]
    send_email.enqueue_sync(5)  # type: ignore[call-overload]
    send_email.options(priority="high")  # type: ignore[arg-type]
    send_email.new("a@b.c", timeout="soon")  # type: ignore[call-overload]
    send_email.options(prioritty=1)  # type: ignore[call-arg]
    send_email.options(schedule_in=60).new(5)  # type: ignore[call-overload]
    send_email.options(priority=1).enqueue_sync("a", sb="Yo")  # type: ignore[call-overload]
    fetch.new("https://example.org", depth="deep")  # type: ignore[call-overload]


async def awaited() -> None:
    MailerWorker.enqueue({})  # type: ignore[unused-coroutine]
    await MailerWorker.enqueue(5)  # type: ignore[arg-type]
    await send_email.enqueue(5)  # type: ignore[call-overload]
    await send_email.enqueue_many(["a@b.c"])  # type: ignore[list-item]


def at_decoration() -> None:
    @worker(priority="high")  # type: ignore[call-overload]
    class WrongValue(Worker):
        def process(self, job: Job) -> None: ...

    @worker(qeue="x")  # type: ignore[call-overload]
    class WrongName(Worker):
        def process(self, job: Job) -> None: ...

    @worker(executor="fork")  # type: ignore[call-overload]
    class WrongPlace(Worker):
        def process(self, job: Job) -> None: ...

    class Without:
        def proces(self, job: Job) -> None: ...

    worker(Without)  # type: ignore[type-var]

    @job(prioritty=1)  # type: ignore[call-overload, untyped-decorator]
    def wrong() -> None: ...

    @worker
    class Unfinished(Worker): ...

    Unfinished()  # type: ignore[abstract]
