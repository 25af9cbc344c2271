import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pytest

from oban import telemetry

Heard: TypeAlias = list[tuple[str, dict[str, Any]]]
Hear: TypeAlias = Callable[..., Heard]


@dataclass
class AJob:
    """The attributes of a job that telemetry looks at."""

    id: int = 42
    worker: str = "app.MailerWorker"
    queue: str = "mailers"
    attempt: int = 1
    max_attempts: int = 20
    args: dict[str, Any] = field(default_factory=lambda: {"password": "hunter2"})
    meta: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=lambda: ["welcome"])
    priority: int = 0
    state: str = "executing"


class Kept(logging.Handler):
    """Keeps the records it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def lines(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def job() -> AJob:
    return AJob()


@pytest.fixture
def hear() -> Iterator[Hear]:
    """Attach a handler that keeps what it hears, for as long as the test runs."""
    attached: list[str] = []

    def attach(*events: str) -> Heard:
        heard: Heard = []
        attached.append(f"test.{len(attached)}")
        telemetry.attach(attached[-1], events, lambda name, data: heard.append((name, data)))
        return heard

    yield attach
    for one in attached:
        telemetry.detach(one)


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, Kept]]:
    """A logger that hears everything, alone, and what it was given."""
    kept = Kept()
    logger = logging.Logger("a test's own", logging.DEBUG)
    logger.addHandler(kept)
    yield logger, kept
    telemetry.logger.detach()
