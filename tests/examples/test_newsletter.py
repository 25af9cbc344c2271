"""The newsletter from end to end, as its user runs it: a process of its own."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from examples.newsletter import subscribers
from examples.newsletter.mail_server import BOUNCES, GREYLISTS, OVERLOADED
from PIL import Image

SUBSCRIBERS = 40
DEMO = (sys.executable, "-W", "error", "-m", "examples.newsletter", "--delay", "0.1")


@dataclass(frozen=True)
class Demo:
    """One run of the demo: what it said, and what it left in its folder and in the database."""

    folder: Path
    results: dict[str, Any]
    said: str
    rows: list[dict[str, Any]]

    def jobs(self, **columns: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if columns.items() <= row.items()]


def run_demo(dsn: str, folder: Path) -> Demo:
    arguments = ("--subscribers", str(SUBSCRIBERS), "--output", folder, "--dsn", dsn)
    done = subprocess.run(
        [*DEMO, *arguments, "--json", "--svg", folder / "demo.svg"],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    with psycopg.connect(dsn) as connection:
        jobs = connection.execute("select to_jsonb(jobs) from newsletter.oban_jobs as jobs")
        rows = [row for (row,) in jobs]
    return Demo(folder, json.loads(done.stdout), done.stderr, rows)


@pytest.fixture(scope="module")
def demo(create_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Run once for all processes that share these tests: its retries take seconds."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = folder / "newsletter"
    folder.mkdir(exist_ok=True)
    kept = folder / "demo.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            found = run_demo(create_database(), folder)
            kept.write_text(json.dumps(asdict(found) | {"folder": str(folder)}), "utf-8")
    return Demo(**json.loads(kept.read_text("utf-8")) | {"folder": folder})


@pytest.fixture(scope="module")
def domains(demo: Demo) -> Counter[str]:
    people = subscribers.read(demo.folder / "subscribers.csv")
    return Counter(each.email.rpartition("@")[2] for each in people)


def test_every_mail_that_arrived_is_one_completed_job(demo: Demo) -> None:
    completed = demo.jobs(state="completed", queue="mailers")
    assert demo.results["one_to_one"] is True
    assert demo.results["accepted"] == demo.results["mails"]["sent"] == len(completed) > 0


def test_each_subscriber_comes_to_the_end_their_address_asks_for(
    demo: Demo, domains: Counter[str]
) -> None:
    mails = demo.results["mails"]
    left = (demo.folder / "unsubscribed.txt").read_text("utf-8").split()
    assert min(domains[BOUNCES], domains[GREYLISTS], domains[OVERLOADED], len(left)) > 0
    assert mails["cancelled"] == len(left)
    assert mails["discarded"] == domains[BOUNCES]
    assert mails["snoozed"] == domains[GREYLISTS]
    assert mails["retried"] == domains[BOUNCES] + domains[OVERLOADED]
    assert mails["sent"] == SUBSCRIBERS - len(left) - domains[BOUNCES]


def test_a_discarded_job_keeps_every_refusal(demo: Demo) -> None:
    for job in demo.jobs(state="discarded"):
        assert job["args"]["email"].endswith(f"@{BOUNCES}")
        assert job["attempt"] == 3
        refusals = ["550 5.1.1 no such mailbox" in each["error"] for each in job["errors"]]
        assert refusals == [True] * 3


def test_a_cancelled_job_keeps_its_reason(demo: Demo) -> None:
    for job in demo.jobs(state="cancelled"):
        reason = f"{job['args']['email']} has unsubscribed"
        assert [each["error"] for each in job["errors"]] == [reason]


def test_a_snooze_uses_up_no_attempt(demo: Demo) -> None:
    for job in demo.jobs():
        if "snoozed" in job["meta"]:
            domain = job["args"]["email"].rpartition("@")[2]
            assert (domain, job["attempt"], job["errors"]) == (GREYLISTS, 1, [])


def test_the_reports_are_images_of_the_recorded_size(demo: Demo) -> None:
    names = []
    for report in demo.results["reports"]:
        path = Path(report["path"])
        names.append(path.name)
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.size == (report["width"], report["height"])
        assert path.stat().st_size == report["bytes"]
    assert names == ["half-way.png", "report.png"]


def test_the_times_are_those_of_the_rows(demo: Demo) -> None:
    mails = demo.results["mails"]
    assert 0 <= mails["start_median"] <= mails["start_p95"] <= demo.results["seconds"]
    assert all(report["start_delay"] >= 0 for report in demo.results["reports"])


def test_people_read_lines_and_a_table_where_there_is_no_terminal(demo: Demo) -> None:
    lines = demo.said.splitlines()
    assert lines[0].startswith("The dashboard is at http://127.0.0.1:")
    assert lines[1] == f"Issue 42 to {SUBSCRIBERS} subscribers, 10 mails at a time"
    table = {" ".join(words[:-1]): words[-1] for line in lines if (words := line.split()[:2])}
    for name in ("sent", "retried", "snoozed", "cancelled", "discarded"):
        assert table[name] == str(demo.results["mails"][name])
    assert "\x1b" not in demo.said


def test_the_picture_holds_the_end_of_the_demo(demo: Demo) -> None:
    picture = (demo.folder / "demo.svg").read_text("utf-8").replace("&#160;", " ")
    sent = demo.results["mails"]["sent"]
    assert picture.startswith("<svg")
    assert f"{sent} completed jobs, one to one" in picture
    assert "--prefix newsletter --state discarded" in picture


@pytest.mark.parametrize("interruption", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_it_cleanly(
    create_database: Callable[[], str], interruption: signal.Signals
) -> None:
    dsn = create_database()
    with subprocess.Popen(
        [*DEMO, "--dsn", dsn], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        while "executing" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(interruption)
        said = process.stdout.read()
    assert process.returncode == 130
    assert said.splitlines()[-1] == "Stopped; all that was started is shut down."
    assert "Traceback" not in said
    with psycopg.connect(dsn) as connection:
        query = "select count(*) from newsletter.oban_jobs where state = 'executing'"
        assert connection.execute(query).fetchone() == (0,)


def test_a_database_that_is_away_is_one_plain_error() -> None:
    away = subprocess.run(
        [*DEMO, "--dsn", "postgresql://127.0.0.1:1/none"],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert away.returncode == 1
    assert "cannot connect to the database" in away.stdout
    assert "Traceback" not in away.stdout + away.stderr


def test_the_list_that_is_shipped_is_the_one_that_is_made() -> None:
    people, left = subscribers.generate(200)
    assert subscribers.read(subscribers.SUBSCRIBERS) == people
    assert subscribers.UNSUBSCRIBED.read_text("utf-8").split() == left


def test_a_list_of_any_length_has_each_address_once() -> None:
    people, left = subscribers.generate(3_000)
    addresses = {each.email for each in people}
    assert len(addresses) == 3_000
    assert set(left) < addresses
