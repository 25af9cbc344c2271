"""`oban web` and `oban start --web-port`: the dashboard from a process of its own, and a node's."""

import asyncio
import signal
import socket
from pathlib import Path

import httpx
import pytest
from tests.cli.application import Application
from tests.cli.conftest import Command
from tests.faults.processes import OBAN, Process

ADDRESS = r"dashboard at (http://[\d.:]+)/"


def web(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> Process:
    return Process(OBAN, "web", *arguments, log=folder / "log", cwd=folder, env=env)


async def test_it_serves_pages_with_the_crontab_until_it_is_told_to_stop(
    oban_dsn: str, application: Application, tmp_path: Path
) -> None:
    application.write(
        "tidying.py", "from oban import job\n\n@job(cron='@daily')\ndef tidy(): ...\n"
    )
    application.write(
        "oban.toml",
        '[[scheduler.entries]]\nworker = "app.Far"\nexpr = "0 0 1 1 *"\nname = "new year"\n',
    )
    async with web(tmp_path, "--dsn", oban_dsn, "--port", "0") as process:
        address = (await process.line(ADDRESS))[1]
        async with httpx.AsyncClient(base_url=address) as reader:
            for path in ("/jobs", "/queues", "/nodes", "/metrics"):
                assert (await reader.get(path)).status_code == 200
            page = (await reader.get("/cron")).text
            assert "new year" in page
            assert "At 00:00" in page
        process.terminate()
        assert await process.exited() == 0


async def test_ctrl_c_ends_it_while_the_server_does_not_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        dsn = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/x?connect_timeout=60"
        async with web(tmp_path, "--dsn", dsn, "--port", "0") as process:
            async with asyncio.timeout(20):
                connection, _ = await asyncio.get_running_loop().sock_accept(silent)
            with connection:
                process.send(signal.SIGINT)
                assert await process.exited(timeout=10) == 130
        assert "Traceback" not in process.output


async def test_users_of_the_environment_are_asked_for(oban_dsn: str, tmp_path: Path) -> None:
    env = {"OBAN_WEB_USERS": "ada:se:cret:admin, bob:secret:read"}
    options = ("--dsn", oban_dsn, "--port", "0", "--host", "0.0.0.0")
    async with web(tmp_path, *options, env=env) as process:
        port = (await process.line(ADDRESS))[1].rpartition(":")[2]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as reader:
            assert (await reader.get("/jobs")).status_code == 401
            assert (await reader.get("/jobs", auth=("ada", "se:cret"))).status_code == 200
            assert "read only" in (await reader.get("/jobs", auth=("bob", "secret"))).text


@pytest.mark.parametrize(
    ("options", "env", "told"),
    [
        (["--host", "0.0.0.0"], {}, "nobody is named in OBAN_WEB_USERS"),
        (["--host", "example.org"], {}, "nobody is named in OBAN_WEB_USERS"),
        ([], {"OBAN_WEB_USERS": "ada"}, "it is name:password:role"),
        ([], {"OBAN_WEB_USERS": "ada:x:root"}, "it is read, operate or admin"),
        ([], {"OBAN_WEB_USERS": "ada::admin"}, "has no name or no password"),
    ],
)
def test_what_would_let_in_anybody_is_refused(
    oban: Command,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    env: dict[str, str],
    told: str,
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    ran = oban("web", "--port", "0", *options)
    assert ran.code in (1, 2)
    assert told in ran.err
    assert "dashboard at" not in ran.out + ran.err


def test_a_port_that_is_taken_is_said(oban: Command) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ran = oban("web", "--port", port)
        assert ran.code == 1
        assert f"port {port} of 127.0.0.1 cannot be opened" in ran.err


async def test_a_node_serves_its_dashboard_and_stops_as_ever(
    oban_dsn: str, application: Application
) -> None:
    options = ("--dsn", oban_dsn, "--queues", "default:3", "--web-port", "0")
    async with application.start(*options, "--node", "web-1") as process:
        address = (await process.line(ADDRESS))[1]
        async with httpx.AsyncClient(base_url=address) as reader:
            assert "web-1" in (await reader.get("/nodes")).text
        process.terminate()
        assert await process.exited() == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--web-port", "4000", "--processes", "2"], "run `oban web` beside"),
        (["--web-port", "here"], "it is PORT or HOST:PORT"),
        (["--web-port", "0.0.0.0:4000"], "nobody is named in OBAN_WEB_USERS"),
    ],
)
def test_a_web_port_that_cannot_be_is_refused(oban: Command, options: list[str], told: str) -> None:
    ran = oban("start", "--queues", "a:1", *options)
    assert ran.code == 2
    assert told in ran.err
