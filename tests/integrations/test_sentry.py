"""What Sentry is told, through its SDK, to a transport that keeps it."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from oban import Oban, RateLimited, job
from oban.errors import InvalidOption
from oban.integrations.sentry import SentryHooks
from oban.testing import drain_queue

SECRET = "a secret in an argument"


class Kept(Transport):
    """Sends nothing: keeps the events."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        if (event := envelope.get_event()) is not None:
            self.events.append(event)


@pytest.fixture
def kept() -> Iterator[Kept]:
    transport = Kept()
    # Its integrations patch asyncio and more, for good: these tests are for ours alone.
    sentry_sdk.init(
        dsn="https://key@sentry.example/1",
        transport=transport,
        release="test",
        default_integrations=False,
    )
    yield transport
    sentry_sdk.init(release="test", default_integrations=False)


class Wanted(Exception):
    pass


class Hopeless(Exception):
    pass


@job(queue="risky", max_attempts=2, discard_on=Hopeless, cancel_on=Wanted)
async def risk(what: str) -> None:
    sentry_sdk.add_breadcrumb(message=f"about to {what}")
    text = SECRET
    match what:
        case "fail":
            raise LookupError(text[:1])
        case "limit":
            raise RateLimited(1)
        case "want":
            raise Wanted
        case "hope":
            raise Hopeless


@job(queue="risky", max_attempts=1)
def risk_on_thread(what: str) -> None:
    raise LookupError(what[:1])


@pytest.fixture
def told(oban_dsn: str, kept: Kept) -> Any:
    """What Sentry is told of the attempts of one job, run until the queue is empty."""

    async def run(wanted: Any, *, drains: int = 1, **options: Any) -> list[Any]:
        async with Oban(pool=oban_dsn, name="Sentry", hooks=[SentryHooks(**options)]) as oban:
            await oban.enqueue(wanted)
            for _ in range(drains):
                await drain_queue("risky", oban, with_safety=True)
        return kept.events

    return run


async def test_an_error_is_told_with_its_job_and_without_its_arguments(told: Any) -> None:
    (event,) = await told(risk_on_thread.new(SECRET))
    (error,) = event["exception"]["values"]
    assert (error["type"], error["mechanism"]["type"]) == ("LookupError", "oban")
    assert error["mechanism"]["handled"] is False
    assert event["transaction"] == f"{__name__}.risk_on_thread"
    assert event["tags"] == {"oban.worker": f"{__name__}.risk_on_thread", "oban.queue": "risky"}
    context = event["contexts"]["oban job"]
    assert context.items() >= {"queue": "risky", "attempt": 1, "max_attempts": 1}.items()
    assert context["id"]
    assert SECRET not in str(event)


async def test_arguments_are_told_to_who_asks(told: Any) -> None:
    (event,) = await told(risk_on_thread.new(SECRET), args=True)
    assert event["contexts"]["oban job"]["args"] == {"what": SECRET}
    assert SECRET in str(event["exception"]["values"][0]["stacktrace"]["frames"][-1]["vars"])


async def test_an_attempt_that_is_not_the_last_is_not_told(told: Any) -> None:
    assert await told(risk.new("fail")) == []


async def test_the_last_one_is(told: Any) -> None:
    (event,) = await told(risk.new("fail"), drains=2)
    assert event["contexts"]["oban job"]["attempt"] == 2


async def test_or_each_of_them(told: Any) -> None:
    events = await told(risk.new("fail"), drains=2, when="every")
    assert [each["contexts"]["oban job"]["attempt"] for each in events] == [1, 2]


def test_a_line_of_ours_about_a_failed_attempt_is_no_event_beside_it(kept: Kept) -> None:
    record = logging.makeLogRecord({"oban_event": "oban.job.exception"})
    sentry_sdk.capture_event({"message": "ours"}, {"log_record": record})
    sentry_sdk.capture_event({"message": "theirs"}, {"log_record": logging.makeLogRecord({})})
    assert [each["message"] for each in kept.events] == ["theirs"]


async def test_each_attempt_has_breadcrumbs_of_its_own(told: Any) -> None:
    for event in await told(risk.new("fail"), drains=2, when="every"):
        crumbs = [each["message"] for each in event["breadcrumbs"]["values"]]
        assert crumbs == ["about to fail"]


@pytest.mark.parametrize(
    ("what", "when", "count"),
    [
        ("hope", "last", 1),
        ("want", "last", 0),
        ("want", "every", 1),
        ("limit", "every", 0),
        ("nothing", "every", 0),
    ],
)
async def test_what_ends_a_job_and_what_is_wanted_is_told_apart(
    told: Any, what: str, when: str, count: int
) -> None:
    assert len(await told(risk.new(what), when=when)) == count


def test_a_choice_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidOption, match="last or every"):
        SentryHooks(when="first")  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="args is 'false'; it is True or False"):
        SentryHooks(args="false")  # type: ignore[arg-type]
