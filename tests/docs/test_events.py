"""The events of the telemetry page are those that are told, with the metadata they have."""

import asyncio
import re

from tests.conftest import Event
from tests.docs.pages import ROOT

from oban import Oban, job

PAGE = (ROOT / "docs/telemetry.md").read_text("utf-8")
#: What is handed on elsewhere has names of its own there.
SOURCE = "\n".join(
    file.read_text("utf-8")
    for file in (ROOT / "src/oban").rglob("*.py")
    if "integrations" not in file.parts
)
ERROR = {"error_message", "error_type", "traceback"}


def documented(marker: str) -> dict[str, set[str]]:
    """Names and metadata in the tables below the marker."""
    found: dict[str, set[str]] = {}
    for rows in re.findall(rf"<!-- {marker} -->\n\n((?:\|[^\n]*\n)+)", PAGE):
        for name, metadata in re.findall(r"^\| `([\w.]+)` \|.*\| ([^|]*) \|$", rows, re.MULTILINE):
            keys = set(re.findall(r"`(\w+)`", metadata))
            found[name] = keys | ERROR if "*error*" in metadata else keys
    return found


EVENTS = documented("events")
SPANS = documented("spans")
#: They need a child process, a death, a calendar, or an hour.
RARE = {
    "oban.child.run",
    "oban.lifeline.rescue",
    "oban.scheduler.evaluate",
    "oban.refresher.cleanup",
}


def test_every_event_and_span_of_the_source_is_documented_and_no_other() -> None:
    spans = set(re.findall(r'\bspan\(\s*"(oban\.[\w.]+)"', SOURCE))
    assert spans == SPANS.keys()
    loops = re.findall(r'^    name = "(oban\.\w+)"$', SOURCE, re.MULTILINE)
    told = set(
        re.findall(
            r'"(oban\.(?:child|counter|job|leader|lifeline|producer|pruner|queue|refresher|reporter|resources|scheduler|signals|stager|web)\.\w+)"',
            SOURCE,
        )
    )
    assert (told - spans) | {f"{loop}.outage" for loop in loops} == EVENTS.keys()


async def test_events_have_the_metadata_that_is_documented(
    oban_dsn: str, events: list[Event]
) -> None:
    @job(queue="events")
    async def divide(by: int) -> float:
        return 1 / by

    quick = {"interval": 0.2, "max_age": 1}
    async with Oban(pool=oban_dsn, queues={"events": 2}, refresher=quick):
        await divide.enqueue(0)
        await divide.enqueue(1)
        async with asyncio.timeout(20):
            while not {"oban.job.stop", "oban.job.exception"} <= {name for name, _ in events}:
                await asyncio.sleep(0.01)

    seen = {name: set(metadata) for name, metadata in events}
    for name in ("oban.job.start", "oban.job.stop", "oban.job.exception"):
        assert seen[name] == EVENTS[name], name
    for name, metadata in SPANS.items():
        if name not in RARE:
            assert seen[f"{name}.stop"] == metadata | {"system_time", "duration"}, name
