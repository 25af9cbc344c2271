"""`oban cron list` and the crontab of `oban start --dry-run`."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.application import Application
from tests.cli.conftest import Command

from oban import Oban
from oban.worker import forget

CRONTAB = """
from oban import job

@job(cron=["@hourly", {"expr": "30 2 * * *", "timezone": "Europe/Berlin", "name": "nightly"}])
def tidy():
    pass
"""


@pytest.fixture
def crontab(application: Application, tmp_path: Path) -> None:
    application.write("tidying_up.py", CRONTAB)
    application.write(
        "oban.toml",
        '[[scheduler.entries]]\nworker = "app.Far"\nexpr = "0 0 1 1 *"\nname = "new year"\n',
    )


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    forget("tidying_up.tidy")
    sys.modules.pop("tidying_up", None)


def test_the_entries_are_listed_with_their_next_and_last_runs(oban: Command, crontab: None) -> None:
    shown = {each["name"]: each for each in oban("cron", "list", "--json").json}
    assert set(shown) == {"nightly", "new year", "tidying_up.tidy @hourly"}
    nightly = shown["nightly"]
    assert (nightly["expr"], nightly["timezone"]) == ("30 2 * * *", "Europe/Berlin")
    assert nightly["last_at"] is None
    assert nightly["next_at"].endswith(("00:30:00+00:00", "01:30:00+00:00"))
    lines = oban("cron", "list").out.splitlines()
    assert any("02:30 (in" in line and line.startswith("nightly") for line in lines)
    assert all(line.rstrip().endswith("never") for line in lines[1:])


def test_a_dry_run_shows_the_next_ten(command: Command, crontab: None) -> None:
    arguments = ("start", "--dry-run", "--dsn", "postgresql://nowhere/x", "--queues", "a:1")
    ran = command(*arguments, "--json")
    shown = json.loads(ran.out)
    assert len(shown["next_runs"]) == 10
    moments = [each["at"] for each in shown["next_runs"]]
    assert moments == sorted(moments)
    assert "tidying_up.tidy @hourly" in {each["name"] for each in shown["next_runs"]}
    text = command(*arguments).out
    assert "The next runs" in text


@pytest.mark.parametrize("columns", ["80", "120", None])
def test_the_table_fits_and_no_word_is_broken(
    oban: Command,
    application: Application,
    crontab: None,
    monkeypatch: pytest.MonkeyPatch,
    columns: str | None,
) -> None:
    application.write("tidying_up.py", CRONTAB.replace("@hourly", "0 9 1-15 JAN-JUN MON-FRI"))
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    for arguments in (("cron", "list"), ("start", "--dry-run", "--queues", "a:1")):
        lines = oban(*arguments).out.splitlines()
        assert all(len(line) <= int(columns or 160) for line in lines)
        assert all(line == line.rstrip() for line in lines)
        rows = [line for line in lines if "0 9 1-15 JAN-JUN MON-FRI" in line]
        assert sum("(in " in row for row in rows) >= 1
        assert any(line.startswith("nightly") and "30 2 * * *" in line for line in lines)


def test_an_entry_whose_worker_is_not_here_is_worth_a_warning(oban: Command, crontab: None) -> None:
    warning = "warning: cron entry 'new year': app.Far is unknown: sys.path has no module app"
    ran = oban("cron", "list")
    assert warning in ran.err
    assert "tidying_up" not in ran.err
    assert warning in oban("start", "--dry-run", "--queues", "a:1").err
    shown = oban("start", "--dry-run", "--queues", "a:1", "--json").json
    assert any("app.Far is unknown" in each for each in shown["warnings"])


def test_entries_of_the_configuration_are_shown_as_text(oban: Command, crontab: None) -> None:
    shown = oban("start", "--dry-run", "--queues", "a:1", "--json").json
    assert shown["configuration"]["scheduler.entries"]["value"] == [
        {"worker": "app.Far", "expr": "0 0 1 1 *", "name": "new year"}
    ]
    (line,) = (
        line
        for line in oban("start", "--dry-run", "--queues", "a:1").out.splitlines()
        if line.startswith("scheduler.entries ")
    )
    assert " app.Far 0 0 1 1 * " in line
    assert line.endswith(" oban.toml")


def test_no_entries_is_said(oban: Command) -> None:
    assert "no worker found here has a `cron` entry" in oban("cron", "list").err


def test_modules_and_paths_of_the_published_package_are_looked_into(
    command: Command, application: Application, tmp_path: Path
) -> None:
    arguments = ("start", "--dry-run", "--dsn", "postgresql://nowhere/x", "--queues", "a:1")
    ran = command(*arguments, "--cron-modules", "no.such.module")
    assert "cron_modules names no.such.module" in ran.err
    ran = command(*arguments, "--cron-paths", "no/such/folder")
    assert "cron_paths names no/such/folder, which does not exist" in ran.err


def test_an_entry_is_paused_and_resumed_on_all_nodes(
    command: Command, crontab: None, client: Oban, oban_dsn: str
) -> None:
    engine = client.engine
    assert command("cron", "pause", "new year", "--dsn", oban_dsn).code == 1
    engine.execute_sync(engine.open_slots("Oban", {"new year": "0 0 1 1 * UTC"}))
    assert "new year: paused" in command("cron", "pause", "new year", "--dsn", oban_dsn).out
    (slot,) = engine.execute_sync(engine.last_slots("Oban"))
    assert slot.paused_at is not None
    assert "new year: resumed" in command("cron", "resume", "new year", "--dsn", oban_dsn).out
    (slot,) = engine.execute_sync(engine.last_slots("Oban"))
    assert (slot.paused_at, slot.expr, slot.timezone) == (None, "0 0 1 1 *", "UTC")
    missed = command("cron", "pause", "new yaer", "--dsn", oban_dsn)
    assert (missed.code, "the nearest is 'new year'" in missed.err) == (1, True)
