"""`oban web`: the dashboard, served by itself."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from oban.cli.database import client
from oban.cli.failures import Failed, WrongUsage
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
    import uvicorn

    from oban.oban import Oban
    from oban.web.access import Auth

#: Who may look and act: name:password:role, one after the other.
USERS: Final = "OBAN_WEB_USERS"
#: Seconds that open answers may take once it is to stop.
GRACE: Final = 2


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
        async with client(loaded) as oban:
            # The crontab of the configuration is this dashboard's as well.
            oban.options = replace(oban.options, scheduler=loaded.options.scheduler)
            server = server_of(
                oban,
                host,
                port,
                auth,
                root_path=root_path,
                read_only=read_only,
                redact=keys,
            )
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, server.handle_exit, number, None)
            await server.serve()

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
    server = server_of(oban, *web_address(address), users_in(os.environ))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.wait([task], timeout=0.02)
        if task.done():
            await task
            raise Failed(f"--web-port {address} cannot be opened")
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.wait([task], timeout=GRACE)


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


def server_of(
    oban: "Oban",
    host: str,
    port: int,
    auth: "Auth | None",
    *,
    root_path: str = "",
    **options: Any,
) -> "uvicorn.Server":
    import uvicorn

    from oban.web import app

    class Server(uvicorn.Server):
        def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
            """Leave them to whoever serves: it would end the process by what it has caught."""
            return nullcontext()

        async def startup(self, sockets: Any = None) -> None:
            try:
                await super().startup(sockets)
            except SystemExit:
                raise Failed(f"port {port} of {host} cannot be opened: see above") from None
            if self.started:
                bound = self.servers[0].sockets[0].getsockname()[1]
                say(("dashboard ", "bold"), f"at http://{host}:{bound}{root_path}/")

    return Server(
        uvicorn.Config(
            app(oban, auth=auth, **options),
            host=host,
            port=port,
            root_path=root_path,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
        )
    )
