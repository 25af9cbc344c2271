"""What is not installed is told with what installs it."""

import subprocess
import sys

import pytest

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Blocked())
from oban.errors import ObanError
try:
    import oban.integrations.{module}
except ObanError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("prometheus", "prometheus_client", "prometheus"),
        ("opentelemetry", "opentelemetry", "otel"),
        ("sentry", "sentry_sdk", "sentry"),
    ],
)
def test_a_missing_extra_says_what_installs_it(module: str, package: str, extra: str) -> None:
    program = BLOCKED.format(module=module, package=package)
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert f'pip install "oban[{extra}]"' in said.stdout
