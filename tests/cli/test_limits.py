"""`oban limits`: what queues share, seen and scaled from a terminal."""

import pytest
from tests.cli.conftest import Command

from oban.engines.postgres import PostgresEngine
from oban.limits import Limits


@pytest.fixture
async def shared(oban_dsn: str) -> None:
    """What a node has said."""
    engine = PostgresEngine(oban_dsn)
    limits = {"mail": Limits(3), "openai": Limits(4, 500, 60.0)}
    await engine.execute(engine.open_limits("default", None, limits, overrule=True))
    await engine.close()


def test_without_any_it_says_so(oban: Command) -> None:
    assert oban("limits", "list").out == "no node has said that queues share a limit\n"
    assert oban("limits", "list", "--json").json == []


@pytest.mark.usefixtures("shared")
def test_limits_are_listed_scaled_and_reset(oban: Command) -> None:
    listed = oban("limits", "list").out.splitlines()
    assert [line.split() for line in listed] == [
        ["limit", "running", "at", "once", "started", "allowed", "remarks"],
        ["mail", "0", "3"],
        ["openai", "0", "4", "0", "500", "in", "1", "min"],
    ]
    assert "100 in 1 min  scaled" in oban("limits", "scale", "openai", "--rate-limit", "100").out
    (_, openai) = oban("limits", "list", "--json").json
    assert openai == {
        "name": "openai",
        "global_limit": 4,
        "rate_limit": {"allowed": 100, "period": 60.0},
        "running": 0,
        "started": 0,
        "resting": 0.0,
        "scaled": True,
    }
    assert oban("limits", "reset", "openai").out == "limit openai: as the nodes say\n"
    assert oban("limits", "reset", "openai").out == "limit openai: had not been scaled\n"


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["opneai", "--global-limit", "1"], "no node has a limit named 'opneai'; there are: mail"),
        (["open ai", "--global-limit", "1"], "a limit is named 'open ai'"),
        (["openai"], "nothing to scale; give global_limit, rate_limit"),
        (["openai", "--global-limit", "0"], "global_limit is 0"),
        (["openai", "--rate-limit", "many"], "--rate-limit is 'many'"),
    ],
)
def test_what_cannot_be_is_refused(oban: Command, arguments: list[str], said: str) -> None:
    ran = oban("limits", "scale", *arguments)
    assert ran.code in (1, 2)
    assert said in ran.err
