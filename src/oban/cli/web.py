"""`oban web`: the dashboard, served by itself."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from oban.cli.database import client
from oban.cli.failures import WrongUsage
from oban.cli.options import (
    ConfigOption,
    DsnOption,
    EmbeddedOption,
    PrefixOption,
    configure,
)
from oban.cli.terminal import say, warn
from oban.cli.workers import application_folder, find_workers, make_importable

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from oban.oban import Oban
    from oban.web.access import Auth

#: Who may look and act: name:password:role, one after the other.
USERS: Final = "OBAN_WEB_USERS"


def web(
    *,
    port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65_535)] = 4000,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="Where to answer; elsewhere than here with users.")
    ] = "127.0.0.1",
    root_path: Annotated[
        str, typer.Option(metavar="PATH", help="What a proxy has taken off the address.")
    ] = "",
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Let nobody change anything.")
    ] = False,
    redact: Annotated[
        str | None,
        typer.Option(metavar="KEY,…", help="Show no value under these keys of args and meta."),
    ] = None,
    app_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where the application's code lies, by default here."),
    ] = None,
    modules: Annotated[
        str | None,
        typer.Option(metavar="MODULE,…", help="Take workers only from these modules or packages."),
    ] = None,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Serve the dashboard until told to stop.

    Who sits at this machine may do everything. To let others in, name them in
    the environment, each with a password and a role, read, operate or admin:

    OBAN_WEB_USERS=ada:secret:admin,bob:secret:read oban web --host 0.0.0.0
    """
    loaded = configure(config, dsn, embedded, prefix, worker_modules=modules)
    auth = users_in(os.environ)
    require_users(host, auth)
    folder = application_folder(app_dir)
    make_importable(folder)
    for warning in find_workers(folder, loaded).warnings():
        warn(warning)
    keys = [each.strip() for each in (redact or "").split(",") if each.strip()]

    async def serve() -> None:
        from oban.web import app

        asked = asyncio.Event()
        async with client(loaded) as oban:
            # Not before: until it is connected, to end it is to end the wait for that.
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, asked.set)
            # The crontab of the configuration is this dashboard's as well.
            oban.options = replace(oban.options, scheduler=loaded.options.scheduler)
            dashboard = app(oban, auth=auth, read_only=read_only, redact=keys)
            async with announced(dashboard, host, port, root_path=root_path):
                await asked.wait()

    asyncio.run(serve())


def web_address(text: str) -> tuple[str, int]:
    """`4000`, for who sits here, or `0.0.0.0:4000`."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 <= int(port) <= 65_535:
        raise WrongUsage(f"--web-port is {text!r}; it is PORT or HOST:PORT, as 4000")
    return host.strip("[]") or "127.0.0.1", int(port)


def check_web_address(text: str) -> None:
    host, _ = web_address(text)
    require_users(host, users_in(os.environ))


@asynccontextmanager
async def serving(oban: "Oban", address: str | None) -> AsyncIterator[None]:
    """Serve the dashboard beside the body of the `with`, on its event loop."""
    if address is None:
        yield
        return
    from oban.web import app

    async with announced(app(oban, auth=users_in(os.environ)), *web_address(address)):
        yield


@asynccontextmanager
async def announced(
    app: "Starlette", host: str, port: int, *, root_path: str = ""
) -> AsyncIterator[None]:
    """Serve it, and say where."""
    import oban.web

    async with oban.web.serving(app, host=host, port=port, root_path=root_path) as address:
        say(("dashboard ", "bold"), f"at {address}/")
        yield


def users_in(environment: Mapping[str, str]) -> "Auth | None":
    """Who is named in the environment, None where nobody is."""
    from oban.web import BasicAuth

    text = environment.get(USERS, "").strip()
    if not text:
        return None
    users = {}
    for at, each in enumerate(text.split(",")):
        name, colon, rest = each.strip().partition(":")
        password, last, role = rest.rpartition(":")
        if not (colon and last):
            raise WrongUsage(
                f"{USERS}, entry {at + 1}: it is name:password:role, with role read, operate or "
                "admin"
            )
        users[name] = (password, role)
    return BasicAuth(users)


def require_users(host: str, auth: "Auth | None") -> None:
    try:
        is_local = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        is_local = False
    if auth is None and not is_local:
        raise WrongUsage(
            f"--host is {host}, which others can reach, and nobody is named in {USERS}; give it "
            f"as {USERS}=ada:PASSWORD:admin,bob:PASSWORD:read, or answer at 127.0.0.1"
        )
