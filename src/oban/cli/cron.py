"""`oban cron`: the entries of the calendar, listed, paused and resumed."""

import asyncio
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from oban.cli.crontab import crontab_table, document, entries, lost
from oban.cli.database import client
from oban.cli.failures import Failed
from oban.cli.options import (
    ConfigOption,
    DsnOption,
    EmbeddedOption,
    JsonOption,
    PrefixOption,
    configure,
)
from oban.cli.terminal import print_json, say, show, warn
from oban.cli.workers import application_folder, find_workers, make_importable
from oban.configuration import Configuration
from oban.lookup import WorkerFinder

cron = typer.Typer(
    name="cron", help="List, pause and resume what the calendar enqueues.", no_args_is_help=True
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]


@cron.command("list")
def list_entries(
    *,
    app_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where the application's code lies, by default here."),
    ] = None,
    modules: Annotated[
        str | None,
        typer.Option(metavar="MODULE,…", help="Take workers only from these modules or packages."),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """List the entries of the application's crontab: when each runs next, and when it ran last."""
    loaded = configure(config, dsn, embedded, prefix, worker_modules=modules)
    folder = application_folder(app_dir)
    make_importable(folder)
    workers = find_workers(folder, loaded)

    async def look() -> None:
        async with client(loaded) as oban:
            engine = oban.engine
            slots = await engine.execute(engine.last_slots(oban.name))
            ids = [slot.job_id for slot in slots if slot.job_id is not None]
            jobs = await engine.execute(engine.get(ids))
        found = entries(loaded, slots, jobs)
        if as_json:
            print_json([document(each) for each in found])
        elif found:
            show(crontab_table(found, with_last=True))
        else:
            say("no worker found here has a `cron` entry, and the configuration adds none")

    asyncio.run(look())
    finder = WorkerFinder(folder, loaded.options.worker_modules)
    for warning in (*workers.warnings(), *lost(entries(loaded), finder)):
        warn(warning)


@cron.command()
def pause(
    *,
    name: NameArgument,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Let the slots of an entry pass without a job, on all nodes, until it is resumed."""
    set_paused(configure(config, dsn, embedded, prefix), name, paused=True)


@cron.command()
def resume(
    *,
    name: NameArgument,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Enqueue the jobs of an entry again, from its next slot on."""
    set_paused(configure(config, dsn, embedded, prefix), name, paused=False)


def set_paused(loaded: Configuration, name: str, *, paused: bool) -> None:
    async def act() -> list[str] | None:
        """None where it was done, else the entries that there are."""
        async with client(loaded) as oban:
            if await (oban.pause_cron if paused else oban.resume_cron)(name):
                return None
            return [
                each.entry for each in await oban.engine.execute(oban.engine.last_slots(oban.name))
            ]

    known = asyncio.run(act())
    if known is not None:
        near = get_close_matches(name, known, n=1)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        raise Failed(f"no node has run the calendar with an entry {name!r} yet{hint}")
    show(f"cron entry {name}: {'paused' if paused else 'resumed'}")
