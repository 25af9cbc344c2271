"""What `oban start` says about itself: to a person, or as log lines to a program."""

import logging
from dataclasses import dataclass
from typing import Final

from rich.table import Table
from rich.text import Text

from oban.cli.logs import EVENTS, LogFormat
from oban.cli.terminal import messages, printable, show
from oban.telemetry.json_line import json_line
from oban.telemetry.text_line import time_of_day

log: Final = logging.getLogger(EVENTS)


@dataclass(frozen=True, slots=True)
class Announcer:
    """Everything on stderr is in one form, so that whoever reads it can read all of it."""

    log_format: LogFormat

    def tell(self, event: str, *shown: str | Table, **facts: object) -> None:
        """Say `shown` to a person, or log the event with its facts."""
        if self.log_format is LogFormat.JSON:
            log.info("%s", json_line(event, logging.INFO, facts))
            return
        for each in shown:
            if isinstance(each, str):
                self.line(("info    ", "dim"), each)
            else:
                show(each, on=messages())

    def warn(self, text: str) -> None:
        if self.log_format is LogFormat.JSON:
            fields = {"message": text}
            log.warning("%s", json_line("oban.node.warning", logging.WARNING, fields))
        else:
            self.line(("warn    ", "yellow"), text)

    def line(self, word: tuple[str, str], text: str) -> None:
        """A line like those of the log, which it stands among."""
        time = (f"{time_of_day()} ", "dim")
        messages().print(Text.assemble(time, word, printable(text)), soft_wrap=True)
