"""Arguments of a type: what is stored of them, what the job is given, and what is refused."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final, NotRequired, TypedDict
from uuid import UUID

import pydantic
import pytest

from oban import Job, JobState, Worker, current_job, telemetry, worker
from oban.errors import InvalidJob, InvalidOption
from oban.lookup import WorkerFinder
from oban.outcome import Ack
from oban.running.executor import Executor
from oban.running.places import Places
from oban.running.run import Run
from oban.running.threads import Threads
from oban.testing import process_job

EXECUTOR: Final = Executor(WorkerFinder(), Places(Threads("test")))
AT: Final = datetime(2030, 1, 2, 3, tzinfo=UTC)
SEEN: list[Any] = []


class Kind(Enum):
    INVOICE = "invoice"


@dataclass(frozen=True, slots=True)
class Line:
    text: str
    price: Decimal


@dataclass
class Invoice:
    to: str
    at: datetime
    number: UUID
    kind: Kind = Kind.INVOICE
    lines: list[Line] = field(default_factory=list)


class Mail(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    to: str = pydantic.Field(alias="recipient")
    copies: int = pydantic.Field(default=1, ge=1)


class Address(TypedDict):
    city: str


class Parcel(TypedDict):
    weight: float
    address: Address
    note: NotRequired[str]


@worker()
class SendInvoice(Worker[Invoice]):
    async def process(self, job: Job[Invoice]) -> Any:
        SEEN.append(job.args)
        current: Any = current_job()
        assert current.args is job.args
        return job.args.lines[0].price

    def backoff(self, job: Job[Invoice]) -> float:
        SEEN.append(job.args)
        return 7


@worker()
class SendMail(Worker[Mail]):
    def process(self, job: Job[Mail]) -> int:
        return job.args.copies


@worker()
class SendParcel(Worker[Parcel]):
    async def process(self, job: Job[Parcel]) -> str:
        return job.args["address"]["city"]


NUMBER: Final = UUID("12345678123456781234567812345678")
INVOICE: Final = Invoice("ada@example.com", AT, NUMBER, lines=[Line("bees", Decimal("9.90"))])
STORED: Final = {
    "to": "ada@example.com",
    "at": "2030-01-02T03:00:00Z",
    "number": str(NUMBER),
    "kind": "invoice",
    "lines": [{"text": "bees", "price": "9.90"}],
}


@pytest.fixture(autouse=True)
def fresh() -> None:
    SEEN.clear()


@pytest.mark.parametrize("given", [INVOICE, STORED, {**STORED, "at": AT, "kind": Kind.INVOICE}])
async def test_a_dataclass_is_stored_as_json_and_given_as_itself(given: Any) -> None:
    job = SendInvoice.new(given)
    assert job.args == STORED
    assert await process_job(job) == Decimal("9.90")
    assert SEEN == [INVOICE]


async def test_a_model_is_stored_by_its_aliases() -> None:
    job = SendMail.new(Mail(recipient="ada", copies=2))
    assert job.args == {"recipient": "ada", "copies": 2}
    assert await process_job(job) == 2


async def test_a_typed_dict_stays_a_dict() -> None:
    job = SendParcel.new({"weight": 1, "address": {"city": "Ulm"}})
    assert job.args == {"weight": 1.0, "address": {"city": "Ulm"}}
    assert await process_job(job) == "Ulm"


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        (
            SendInvoice,
            {**STORED, "at": "soon"},
            r"SendInvoice is no Invoice: at: .*'soon'",
        ),
        (SendInvoice, {}, "to: Field required"),
        (SendInvoice, None, "number: Field required"),
        (SendInvoice, "ada", "is 'ada'; it is a Invoice, or a dict of its fields"),
        (SendInvoice, Invoice(5, AT, NUMBER), "Invoice"),  # type: ignore[arg-type]
        (
            SendMail,
            {"recipient": "ada", "copies": 0},
            "copies: .*or equal to 1, got 0",
        ),
        (SendMail, {"recipient": "ada", "copy": 1}, "copy: Extra inputs are not permitted"),
        (SendMail, Mail.model_construct(to=5), "Mail"),
        (
            SendParcel,
            {"weight": "heavy", "address": {}},
            "weight: .*; address.city: Field",
        ),
    ],
)
def test_what_is_not_of_the_type_is_refused_when_it_is_built(
    kind: Any, given: object, said: str
) -> None:
    with pytest.raises(InvalidJob, match=said):
        kind.new(given)


async def execute(job: Job[Any]) -> Ack:
    job.id, job.attempt, job.state = 7, 1, JobState.EXECUTING
    return await EXECUTOR.execute(Run(job))


@pytest.fixture
def told() -> Iterator[list[Any]]:
    found: list[Any] = []
    names = ["oban.job.start", "oban.job.stop", "oban.job.exception"]
    telemetry.attach("test", names, lambda _, metadata: found.append(metadata["job"].args))
    yield found
    telemetry.detach("test")


async def test_others_see_what_is_stored(told: list[Any]) -> None:
    job = SendInvoice.new(INVOICE)
    assert (await execute(job)).state == "completed"
    assert told == [STORED, STORED]
    assert job.args == STORED


async def test_a_row_with_other_arguments_fails_alone_and_is_tried_again() -> None:
    job: Job[Any] = SendInvoice.new(INVOICE)
    job.args = {"to": "ada"}
    ack = await execute(job)
    assert (ack.state, ack.delay) == ("retryable", 7)
    assert "InvalidJob: args of" in str(ack.error)
    assert "at: Field required, got {'to': 'ada'}" in str(ack.error)
    assert SEEN == [{"to": "ada"}]


async def test_backoff_has_the_arguments_too() -> None:
    job = SendInvoice.new({**STORED, "lines": []})  # type: ignore[arg-type]
    assert (await execute(job)).delay == 7
    assert [SEEN[0], SEEN[0]] == SEEN
    assert isinstance(SEEN[1], Invoice)


def test_a_subclass_has_the_type_of_its_base() -> None:
    @worker()
    class Special(SendMail): ...

    with pytest.raises(InvalidJob, match="recipient: Field required"):
        Special.new({})  # type: ignore[arg-type]


async def test_many_are_checked_one_by_one() -> None:
    jobs = SendParcel.options(priority=1)
    parcel: Parcel = {"weight": 1, "address": {"city": "Ulm"}}
    assert [job.priority for job in jobs.new_many([parcel, parcel], {})] == [1, 1]
    with pytest.raises(InvalidJob, match="weight"):
        jobs.new_many([parcel, {}], {})  # type: ignore[typeddict-item]


@pytest.mark.parametrize("kind", [int, list[int], "Nothing", Line | Invoice])
def test_what_has_no_arguments_by_name_is_no_type_for_them(kind: Any) -> None:
    with pytest.raises(InvalidOption, match="a pydantic model, a dataclass or a TypedDict"):

        @worker()
        class Refused(Worker[kind]):
            def process(self, job: Job[Any]) -> None: ...


def test_the_crontab_is_checked_too() -> None:
    with pytest.raises(InvalidJob, match="recipient: Field required"):

        @worker(cron={"expr": "@daily", "args": {"to": "ada"}})
        class Daily(Worker[Mail]):
            def process(self, job: Job[Mail]) -> None: ...


@pytest.mark.parametrize("base", [Worker, Worker[dict[str, Any]], Worker[Any]])
def test_others_take_any_dict(base: Any) -> None:
    @worker()
    class Untyped(base):  # type: ignore[misc]
        def process(self, job: Job) -> None: ...

    assert Untyped.new({"anything": 1}).args == {"anything": 1}
