"""What `oban start` logs, and how each line looks."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from oban import telemetry

#: The logger of the lines that are written as they are shown.
EVENTS: Final = "oban"


class LogFormat(StrEnum):
    JSON = "json"
    TEXT = "text"

    @classmethod
    def fitting(cls) -> "LogFormat":
        """For the people at a terminal, or for the programs that read everything else."""
        return cls.TEXT if sys.stderr.isatty() else cls.JSON


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


def configure_logging(level: LogLevel, log_format: LogFormat) -> None:
    """Log to stderr, one line each in one form: our events, and what any library logs."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if log_format is LogFormat.JSON else TextLines())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level.upper())
    if level is not LogLevel.DEBUG:
        # Its pools announce at INFO what the banner says better.
        logging.getLogger("psycopg").setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)
    telemetry.logger.attach(format=log_format.value)


@contextmanager
def held_back(event: str) -> Iterator[None]:
    """Log no line of this event meanwhile: it is told in another way."""

    def keep(record: logging.LogRecord) -> bool:
        return getattr(record, "oban_event", None) != event

    logger = logging.getLogger(EVENTS)
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        if record.name == EVENTS:
            return record.getMessage()
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class TextLines(logging.Formatter):
    default_time_format = "%H:%M:%S"
    default_msec_format = "%s.%03d"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        if record.name == EVENTS:
            return record.getMessage()
        record.levelname = record.levelname.lower()
        return super().format(record)
