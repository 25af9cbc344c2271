"""What `oban start` says about itself: to a person, or as log lines to a program."""

import logging
from dataclasses import dataclass
from typing import Final

from rich.console import RenderableType
from rich.text import Text

from oban.cli.logs import EVENTS, LogFormat
from oban.cli.terminal import messages, printable
from oban.telemetry.json_line import json_line

log: Final = logging.getLogger(EVENTS)


@dataclass(frozen=True, slots=True)
class Announcer:
    """Everything on stderr is in one form, so that whoever reads it can read all of it."""

    log_format: LogFormat

    def tell(self, event: str, shown: RenderableType, **facts: object) -> None:
        """Say `shown` to a person, or log the event with its facts."""
        if self.log_format is LogFormat.JSON:
            log.info("%s", json_line(event, logging.INFO, facts))
        else:
            messages().print(shown, soft_wrap=isinstance(shown, str | Text))

    def warn(self, text: str) -> None:
        if self.log_format is LogFormat.JSON:
            fields = {"message": text}
            log.warning("%s", json_line("oban.node.warning", logging.WARNING, fields))
        else:
            warning = Text.assemble(("warning: ", "yellow"), printable(text))
            messages().print(warning, soft_wrap=True)
