"""`oban jobs stats`: groups of jobs, seen from a terminal."""

import pytest
from tests.cli.conftest import Command, Insert


@pytest.fixture
def some(insert: Insert) -> None:
    times = {"attempted_at": "2030-01-01 00:00:01", "scheduled_at": "2030-01-01 00:00:00"}
    for n in range(3):
        insert(
            worker="app.Export",
            state="completed",
            completed_at="2030-01-01 00:00:01.25",
            args={"tenant_id": n % 2},
            attempted_by=["web-1", "uuid"],
            **times,
        )
    insert(worker="app.Export", queue="slow", state="retryable", args={"tenant_id": 1})
    insert(worker="app.Mail")


def lines(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines()]


def test_no_jobs_is_said(oban: Command) -> None:
    assert oban("jobs", "stats").err == "no jobs\n"
    assert oban("jobs", "stats", "--queue", "other").err == "no job matches\n"
    assert oban("jobs", "stats", "--json").json == []


@pytest.mark.usefixtures("some")
def test_jobs_are_counted_by_worker(oban: Command) -> None:
    assert lines(oban("jobs", "stats").out) == [
        ["worker", "jobs", "waited", "p95", "took", "p95", "states"],
        [*("app.Export", "4", "1.0", "s", "1.0", "s", "250", "ms", "250", "ms"),
         *("1", "retryable,", "3", "completed")],
        ["app.Mail", "1", "1", "available"],
    ]  # fmt: skip


@pytest.mark.usefixtures("some")
@pytest.mark.parametrize(
    ("options", "groups"),
    [
        (["--by", "queue"], {"default": 4, "slow": 1}),
        (["--by", "state"], {"completed": 3, "available": 1, "retryable": 1}),
        (["--by", "node"], {"web-1": 3, None: 2}),
        (["--by", "args.tenant_id"], {"0": 2, "1": 2, None: 1}),
        (["--by", "args.tenant_id", "--state", "completed"], {"0": 2, "1": 1}),
        (["--by", "worker", "--queue", "slow"], {"app.Export": 1}),
        (["--by", "queue", "--worker", "app.Mail"], {"default": 1}),
        (["--by", "worker", "--node", "web-1"], {"app.Export": 3}),
        (["--by", "queue", "--limit", "1"], {"default": 4}),
        (["--by", "queue", "--since", "1h"], {"default": 4, "slow": 1}),
        (["--by", "queue", "--since", "0s"], {}),
    ],
)
def test_they_are_grouped_and_chosen(
    oban: Command, options: list[str], groups: dict[str | None, int]
) -> None:
    found = oban("jobs", "stats", "--json", *options).json
    assert {each["group"]: each["count"] for each in found} == groups


@pytest.mark.usefixtures("some")
def test_what_is_not_shown_is_said(oban: Command) -> None:
    ran = oban("jobs", "stats", "--by", "queue", "--limit", "1")
    assert len(ran.out.splitlines()) == 2
    assert ran.err == "there are more: the first 1 group\n"


@pytest.mark.usefixtures("some")
def test_the_table_fits_a_narrow_terminal(
    oban: Command, insert: Insert, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(worker=f"app.{'Long' * 20}", state="discarded")
    monkeypatch.setenv("COLUMNS", "80")
    assert all(len(line) <= 80 for line in oban("jobs", "stats").out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--by", "tags"], "jobs are grouped by state, queue, worker, node, or by something in"),
        (["--since", "soon"], "--since is 'soon'; it is a length as 90s, 30m, 2h or 7d"),
    ],
)
def test_what_cannot_be_is_refused(oban: Command, arguments: list[str], said: str) -> None:
    ran = oban("jobs", "stats", *arguments)
    assert ran.code == 2
    assert said in " ".join(ran.err.split())
