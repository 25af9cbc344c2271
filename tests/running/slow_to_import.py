"""A worker whose module takes longer to import than its jobs may take."""

import os
import time

from oban import job

if os.environ.get("OBAN_TEST_SLOW_IMPORT"):
    time.sleep(0.8)


@job(queue="hostile", executor="process", timeout=0.4)
def quick() -> None: ...
