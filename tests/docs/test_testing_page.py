"""The fixtures and the test of the testing page, run by pytest as they are written."""

import os
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import titled

FILES = ("conftest.py", "test_shop.py", "shop.py")


def test_the_page_works_in_pytest(tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).write_text(titled("docs/testing.md", name), "utf-8")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-o", "asyncio_mode=auto", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 passed" in result.stdout
