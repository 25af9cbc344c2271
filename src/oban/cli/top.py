"""`oban top`: nodes, queues and the slowest jobs, as they are from one moment to the next."""

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Final

import typer

from oban import schema
from oban.cli.database import client, reachable
from oban.cli.looker import Look, Looker, looker
from oban.cli.options import (
    ConfigOption,
    DsnOption,
    EmbeddedOption,
    JsonOption,
    PrefixOption,
    configure,
)
from oban.cli.screen import QUIT, Screen, takes_screen
from oban.cli.terminal import output, print_json, show
from oban.cli.top_view import SORTS, Shown, document, report, screen
from oban.configuration import Configuration
from oban.errors import ObanError
from oban.phrases import span_text
from oban.schema import SchemaStatus

#: Seconds after which is drawn again what is not new, since it tells how old it is.
REDRAW: Final = 1.0


def top(
    *,
    interval: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.2, max=3_600, help="How long between two looks."),
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one look, and end.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Watch nodes, queues, rates and the slowest running jobs, until told to stop.

    q quits, p pauses, s sorts the queues by something else. Where there is no terminal it prints
    one look and ends, as with --once; with --json as a document.
    """
    loaded = configure(config, dsn, embedded, prefix)
    with reachable(loaded) as database:
        located = replace(loaded, dsn=database.dsn)
        is_live = not (once or as_json) and takes_screen(output())
        with suppress(KeyboardInterrupt):  # the usual end
            if is_live:
                asyncio.run(watch(located, database.dsn, interval))
            else:
                asyncio.run(print_once(located, database.dsn, as_json=as_json))


async def print_once(loaded: Configuration, dsn: str, *, as_json: bool) -> None:
    async with client(loaded) as oban, looker(oban) as found:
        place = await schema.status(dsn, loaded.options.prefix)
        look = await found.look(patiently=True)
    if as_json:
        print_json(document(look, place, dsn))
    else:
        show(*report(look, place, output().width))


async def watch(loaded: Configuration, dsn: str, interval: float) -> None:
    async with client(loaded) as oban, looker(oban) as found:
        place = await schema.status(dsn, loaded.options.prefix)
        await Watch(found, place, interval).run()


class Watch:
    """Looks and shows, each at its own pace: keys act while a look waits for its answer."""

    def __init__(self, looker: Looker, place: SchemaStatus, interval: float) -> None:
        self.looker = looker
        self.interval = interval
        self.shown = Shown(place)
        self.last: Look | None = None
        #: When that was, and why there is none since, by the monotonic clock.
        self.seen_at = time.monotonic()
        self.failure = ""
        self.is_paused = False
        self.is_over = False
        self.changed = asyncio.Event()

    async def run(self) -> None:
        console = output()
        looking = asyncio.create_task(self.look_again())
        try:
            with Screen(console, self.press) as terminal:
                while not self.is_over:
                    width, height = console.size
                    terminal.show(screen(self.last, self.told(), width, height))
                    if looking.done():
                        looking.result()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self.changed.wait(), REDRAW)
                    self.changed.clear()
        finally:
            looking.cancel()
            await asyncio.wait([looking])

    async def look_again(self) -> None:
        while True:
            if not self.is_paused:
                await self.look()
                self.changed.set()
            await asyncio.sleep(self.interval)

    async def look(self) -> None:
        try:
            self.last = await self.looker.look()
        except ObanError as error:
            self.failure = " ".join(str(error).split())
        except TimeoutError:
            self.failure = "no answer from the database"
        else:
            self.seen_at, self.failure = time.monotonic(), ""

    def told(self) -> Shown:
        age = span_text(time.monotonic() - self.seen_at, 1)
        trouble = f"for {age}: {self.failure}" if self.failure else ""
        return replace(self.shown, note="paused" if self.is_paused else "", trouble=trouble)

    def press(self, key: str) -> None:
        if key == QUIT:
            self.is_over = True
        elif key == "p":
            self.is_paused = not self.is_paused
        elif key == "s":
            names = list(SORTS)
            after = names[(names.index(self.shown.sort) + 1) % len(names)]
            self.shown = replace(self.shown, sort=after)
        self.changed.set()
