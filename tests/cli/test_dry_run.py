"""What a node would run: each time as if in a process of its own, which has imported nothing."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
from tests.cli.application import Application
from tests.cli.conftest import Command, Ran, imports_of

from oban.worker import definition

DSN = "postgresql://joe:s3cret@db.example/app"

DryRun = Callable[..., Ran]
Document = Callable[..., Any]


@pytest.fixture
def dry_run(command: Command, application: Application, monkeypatch: pytest.MonkeyPatch) -> DryRun:
    def run(*arguments: str, **env: str) -> Ran:
        with monkeypatch.context() as alone, imports_of(application.folder):
            alone.setattr(definition, "REGISTRY", {})
            alone.setattr(definition, "FORMER", {})
            alone.setattr(definition, "PRIVATE", set())
            alone.setattr(sys, "path", sys.path.copy())
            for name, value in env.items():
                alone.setenv(name, value)
            return command("start", "--dry-run", *arguments)

    return run


@pytest.fixture
def document(dry_run: DryRun) -> Document:
    def run(*arguments: str) -> Any:
        return dry_run("--dsn", DSN, "--queues", "default", "--json", *arguments).json

    return run


def test_each_key_is_shown_with_its_source(application: Application, dry_run: DryRun) -> None:
    file = application.write(
        "oban.toml", f'dsn = "{DSN}"\nshutdown_grace_period = 7\n[queues]\ndefault = 3\n'
    )
    shown = dry_run("--json", "--queues", "mailers:5", OBAN_NODE="one").json
    values = shown["configuration"]
    assert values["dsn"] == {"value": "postgresql://joe:***@db.example/app", "source": str(file)}
    assert values["queues.default.limit"] == {"value": 3, "source": str(file)}
    assert values["queues.mailers.limit"] == {"value": 5, "source": "--queues"}
    assert values["node"] == {"value": "one", "source": "OBAN_NODE"}
    assert values["prefix"] == {"value": "public", "source": "default"}
    assert values["shutdown_grace_period"] == {"value": 7.0, "source": str(file)}
    assert "jobs_of_mine.Patient" in shown["workers"]
    assert shown["problem"] is None


def test_a_person_reads_the_same(dry_run: DryRun) -> None:
    done = dry_run("--dsn", DSN, "--queues", "default:3")
    assert done.code == 0
    assert "s3cret" not in done.out + done.err
    lines = [line.split() for line in done.out.splitlines()]
    assert ["queues.default.limit", "3", "--queues"] in lines
    assert ["prefix", "public", "default"] in lines
    assert ["jobs_of_mine.quick"] in lines


def test_what_would_keep_it_from_running_is_said_at_the_end(dry_run: DryRun) -> None:
    done = dry_run("--queues", "default:3")
    assert done.code == 2
    assert "jobs_of_mine.quick" in done.out
    assert "error: no database is configured" in done.err


def test_a_module_that_fails_is_passed_over_with_its_error(
    application: Application, document: Document
) -> None:
    application.write("broken.py", "from oban import job\n\n1 / 0\n@job()\ndef x(): ...\n")
    shown = document()
    reason = shown["passed_over"]["broken"]
    assert "ZeroDivisionError: division by zero" in reason
    assert "broken.py, line 3" in reason
    assert "jobs_of_mine.quick" in shown["workers"]


def test_a_wrong_option_of_a_worker_is_shown_where_it_stands(
    application: Application, document: Document
) -> None:
    application.write("bad.py", 'from oban import job\n\n@job(cron="61 * * * *")\ndef x(): ...\n')
    reason = document()["passed_over"]["bad"]
    assert "61" in reason
    assert reason.endswith(f"({application.folder / 'bad.py'}, line 3)")


def test_keys_are_whole_on_a_narrow_terminal(dry_run: DryRun) -> None:
    done = dry_run("--dsn", DSN, "--queues", "default:3", COLUMNS="80")
    lines = done.out.splitlines()
    assert any(line.startswith("queues.default.debounce_interval ") for line in lines)
    assert not any(line.startswith(" ") for line in lines[:20])
    assert all(len(line) <= 80 for line in lines[:20])


def test_a_silence_shorter_than_two_beats_is_refused(
    application: Application, dry_run: DryRun
) -> None:
    application.write("oban.toml", "refresher = { interval = 5, max_age = 6 }\n")
    done = dry_run("--dsn", DSN, "--queues", "default:3")
    assert done.code == 2
    assert (
        "refresher.max_age is 6 and refresher.interval is 5; the first is at least two of the "
        "second: 10, or give an interval of 1.8"
    ) in done.err
    assert "oban.toml" in done.err


def test_a_named_module_that_fails_is_a_failure(application: Application, dry_run: DryRun) -> None:
    application.write("broken.py", "1 / 0\n")
    done = dry_run("--dsn", DSN, "--queues", "default", "--modules", "broken")
    assert done.code == 1
    assert "broken, which cannot be imported: ZeroDivisionError" in done.err
    assert "Traceback" not in done.err


def test_modules_limit_what_is_imported(application: Application, document: Document) -> None:
    application.write("other.py", "from oban import job\n@job()\ndef one(): ...\n")
    assert document("--modules", "other")["workers"] == ["other.one"]
    everything = document("--modules", "other,jobs_of_mine")["workers"]
    assert {"other.one", "jobs_of_mine.quick"} <= set(everything)


def test_an_application_may_lie_elsewhere(application: Application, document: Document) -> None:
    application.write("inner/app/__init__.py", "")
    application.write("inner/app/tasks.py", "from oban import job\n@job()\ndef one(): ...\n")
    assert document("--app-dir", "inner")["workers"] == ["app.tasks.one"]


def test_a_src_layout_is_found_once_under_its_name(
    application: Application, document: Document
) -> None:
    application.write("src/package/__init__.py", "")
    application.write("src/package/tasks.py", "from oban import job\n@job()\ndef one(): ...\n")
    workers = document()["workers"]
    assert [each for each in workers if "one" in each] == ["package.tasks.one"]


def test_a_src_that_is_a_package_keeps_its_name(
    application: Application, document: Document
) -> None:
    application.write("src/__init__.py", "")
    application.write("src/tasks.py", "from oban import job\n@job()\ndef one(): ...\n")
    workers = document()["workers"]
    assert [each for each in workers if "one" in each] == ["src.tasks.one"]


def test_no_workers_is_worth_a_warning(application: Application, document: Document) -> None:
    (application.folder / "empty").mkdir()
    shown = document("--app-dir", "empty")
    assert shown["workers"] == []
    assert any("no workers found in" in each for each in shown["warnings"])


def test_a_variable_spelt_wrong_is_worth_a_warning(dry_run: DryRun) -> None:
    done = dry_run("--dsn", DSN, "--queues", "default", OBAN_QUUES="default:4")
    assert "warning: OBAN_QUUES is not read; did you mean OBAN_QUEUES?" in done.err
