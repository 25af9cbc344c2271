"""`oban install`, `migrate` and `uninstall`: the tables."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer

from oban import schema
from oban.cli.confirm import confirm
from oban.cli.database import reachable
from oban.cli.options import (
    ConfigOption,
    DsnOption,
    EmbeddedOption,
    PrefixOption,
    YesOption,
    configure,
)
from oban.cli.terminal import messages, output, say
from oban.engines.postgres import PostgresEngine
from oban.phrases import counted
from oban.schema import SchemaStatus

T = TypeVar("T")


def install(
    *,
    insert_trigger: Annotated[
        bool,
        typer.Option("--insert-trigger", help="Notify for jobs inserted by anyone, plain SQL too."),
    ] = False,
    elixir: Annotated[
        bool, typer.Option("--elixir", help="Add what nodes of Oban for Elixir look for.")
    ] = False,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Make the tables, or bring those that are there up to date.

    Doing it twice changes nothing. Over the tables of another Oban it adds what is missing.
    """
    loaded = configure(config, dsn, embedded, prefix)
    place = loaded.options.prefix
    with reachable(loaded) as database:
        work = schema.install(database.dsn, place, insert_trigger=insert_trigger, elixir=elixir)
        applied = carry_out(work, "installing")
        tell(applied, asyncio.run(schema.status(database.dsn, place)))


def migrate(
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Bring the tables to the version that this package needs, without long locks."""
    loaded = configure(config, dsn, embedded, prefix)
    place = loaded.options.prefix
    with reachable(loaded) as database:
        before = asyncio.run(schema.status(database.dsn, place))
        if before.tables != "missing" and before.pending:
            say(f"from version {before.version} to {before.latest}: {', '.join(before.pending)}")
        applied = carry_out(schema.migrate(database.dsn, place), "migrating")
        tell(applied, asyncio.run(schema.status(database.dsn, place)))


def uninstall(
    yes: YesOption = False,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Remove the tables with all their jobs.

    Tables that another Oban made stay; only what was added to them is removed.
    """
    loaded = configure(config, dsn, embedded, prefix)
    with reachable(loaded) as database:
        status = asyncio.run(schema.status(database.dsn, loaded.options.prefix))
        if status.tables == "missing":
            say(f"there are no Oban tables in {where(status)}")
            return
        losing = "but for its jobs, which another Oban's tables keep"
        if status.tables == "own":
            losing = f"with {counted(asyncio.run(count_jobs(database.dsn, status)), 'job')}"
        confirm(f"Remove Oban from {where(status)}, {losing}?", yes=yes)
        carry_out(schema.uninstall(database.dsn, status.prefix), "removing")
    output().print(f"removed from {where(status)}, {losing}", soft_wrap=True)


def carry_out(work: Coroutine[Any, Any, T], doing: str) -> T:
    """Run it, with something that moves for a person to look at."""
    with messages().status(doing):
        return asyncio.run(work)


def tell(applied: list[str], status: SchemaStatus) -> None:
    for label in applied:
        output().print(f"applied {label}", soft_wrap=True)
    state = "is up to date" if not applied else "is ready"
    output().print(f"{where(status)} {state}, at version {status.version}", soft_wrap=True)


def where(status: SchemaStatus) -> str:
    return f"database {status.database}, schema {status.prefix}"


async def count_jobs(address: str, status: SchemaStatus) -> int:
    engine = PostgresEngine(address, status.prefix)
    try:
        return sum(each.count for each in await engine.execute(engine.counts()))
    finally:
        await engine.close()
