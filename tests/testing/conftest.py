import pytest
from tests.testing.workers import RAN


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    RAN.clear()
