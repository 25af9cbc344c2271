import subprocess
import sys

import pytest
from tests.cli.conftest import Command
from tests.faults.processes import OBAN

from oban.cli import program


@pytest.mark.parametrize("arguments", [["--help"], ["start", "--help"], ["jobs", "--help"]])
def test_help_is_fine(command: Command, arguments: list[str]) -> None:
    ran = command(*arguments)
    assert ran.code == 0
    assert "Usage: oban" in ran.out
    assert ran.err == ""


def test_help_names_every_command_in_its_group(command: Command) -> None:
    shown = command("--help").out
    for group, names in {
        "Run": ["start", "version"],
        "Tables": ["install", "migrate", "uninstall"],
        "Jobs and queues": ["status", "jobs", "queues", "cron"],
    }.items():
        panel = shown.partition(f"─ {group} ─")[2].partition("╰")[0]
        assert all(f"│ {name} " in panel for name in names), group


def test_help_shows_examples_line_by_line(command: Command) -> None:
    lines = [line.strip() for line in command("start", "--help").out.splitlines()]
    assert "oban start --embedded --reload             for development" in lines


def test_without_a_command_help_is_shown_as_wrong_usage(command: Command) -> None:
    ran = command()
    assert "Usage: oban" in ran.out
    assert "error" not in ran.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["start", "--quues", "default:1"], "there is no option --quues; did you mean --queues?"),
        (["jobs", "list", "--worke", "x"], "did you mean --worker?"),
        (["strat"], "No such command 'strat'"),
        (["jobs", "list", "--state", "done"], "'done' is not one of 'available', 'scheduled'"),
        (["jobs", "list", "--limit", "many"], "--limit"),
        (["jobs", "list", "--args", "user_id"], "it is key=value, such as user_id=42"),
        (["jobs", "show", "first"], "ID"),
        (["jobs", "show"], "ID"),
        (["start", "--log-level", "loud"], "--log-level"),
        (["start", "--app-dir", "nowhere"], "--app-dir is nowhere, which is no folder"),
        (["start", "--embedded", "--dsn", "dbname=x"], "--embedded and --dsn are both given"),
        (["start", "--json"], "--json goes with --dry-run"),
        (["start", "--queues", "mailers 5"], "a queue 'mailers 5'; did you mean mailers:5?"),
        (["start", "--queues", "a:1,b c:5"], "a queue 'b c'; did you mean b,c?"),
    ],
)
def test_wrong_usage_is_one_message_and_code_2(
    command: Command, arguments: list[str], said: str
) -> None:
    ran = command(*arguments)
    assert ran.code == 2
    assert ran.err.startswith("error: ")
    assert said in ran.err
    assert ran.out == ""
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--queues", "default:many"], "--queues: queues is 'default:many'"),
        (["--pool-min-size", "-1"], "--pool-min-size"),
        (["--shutdown-grace-period", "-1"], "--shutdown-grace-period"),
        (["--prefix", " "], "--prefix"),
        (["--cron-modules", "app.cron"], "cron_modules names app.cron: there is no such module"),
        (["--cron-paths", "cron"], "cron_paths names cron, which does not exist"),
        (["--config", "missing.toml"], "missing.toml does not exist"),
        (["--dsn", "mysql://x"], "is not a connection string that PostgreSQL can read"),
        ([], "no queues are configured"),
        (["--queues", "default", "--modules", "no.such.module"], "there is no such module"),
    ],
)
def test_a_bad_configuration_is_wrong_usage(
    command: Command, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.setenv("OBAN_DSN", "postgresql://localhost/nothing")
    ran = command("start", "--dry-run", *arguments)
    assert ran.code == 2
    assert f"error: {said}" in ran.err or said in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    "arguments", [["start", "--queues", "default"], ["jobs", "list"], ["status"], ["install"]]
)
def test_without_a_dsn_the_ways_to_give_one_are_told(
    command: Command, arguments: list[str]
) -> None:
    ran = command(*arguments)
    assert ran.code == 2
    for way in ("--dsn", "OBAN_DSN", "oban.toml", "[tool.oban]", "--embedded"):
        assert way in ran.err


def test_a_dsn_under_a_wrong_name_is_pointed_at(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBAN_DNS", "postgresql://localhost/x")
    for arguments in (["jobs", "list"], ["start"]):
        assert "OBAN_DNS is not read; did you mean OBAN_DSN?" in command(*arguments).err


def test_queues_under_a_wrong_name_are_pointed_at(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBAN_QUEUE", "default:5")
    told = command("start", "--dsn", "postgresql://localhost/x").err
    assert "no queues are configured" in told
    assert "OBAN_QUEUE is not read; did you mean OBAN_QUEUES?" in told


def test_the_embedded_server_is_said_to_come_from_what_was_typed(command: Command) -> None:
    planned = command("start", "--embedded", "--dry-run", "--json").json
    assert planned["configuration"]["dsn"] == {"value": "embedded", "source": "--embedded"}


@pytest.mark.parametrize(
    "arguments", [["jobs", "list"], ["jobs", "retry", "1"], ["status"], ["install"], ["migrate"]]
)
def test_a_database_that_is_not_there_is_one_message(
    command: Command, arguments: list[str]
) -> None:
    ran = command(*arguments, "--dsn", "postgresql://joe:s3cret@127.0.0.1:1/x")
    assert ran.code == 1
    assert "Connection refused" in ran.err
    assert "s3cret" not in ran.out + ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("arguments", [["jobs", "list"], ["jobs", "show", "1"], ["migrate"]])
def test_missing_tables_are_one_message_that_names_the_command(
    command: Command, dsn: str, arguments: list[str]
) -> None:
    ran = command(*arguments, "--dsn", dsn)
    assert ran.code == 1
    assert "run `oban install`" in ran.err
    assert "Traceback" not in ran.err


def test_what_nobody_expected_shows_where_it_came_from(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(program, "app", fail)
    ran = command("version")
    assert ran.code == 1
    assert "Traceback" in ran.err
    assert "ZeroDivisionError: oops" in ran.err


def test_an_interrupt_is_quiet(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "app", interrupted)
    assert command("version") == type(command("version"))(130, "", "")


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_the_version_is_printed(command: Command, arguments: list[str]) -> None:
    ran = command(*arguments)
    assert ran.code == 0
    assert ran.out.startswith("oban 0.")


def test_the_version_is_a_document_for_programs(command: Command) -> None:
    assert set(command("version", "--json").json) == {"oban", "python", "psycopg"}


@pytest.mark.parametrize("way", [[str(OBAN)], [sys.executable, "-m", "oban"]])
def test_it_runs_as_a_command_and_as_a_module(way: list[str]) -> None:
    done = subprocess.run([*way, "version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("oban 0.")
    failed = subprocess.run([*way, "nonsense"], capture_output=True, text=True, check=False)
    assert failed.returncode == 2


def test_a_reader_that_leaves_is_no_error(tmp_path: object) -> None:
    done = subprocess.run(
        f"{OBAN} start --help | head -c 10",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
