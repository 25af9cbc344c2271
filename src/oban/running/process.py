"""What this process can tell of itself."""

import contextlib
import os
import resource
import sys
from functools import cache
from importlib.metadata import version as version_of
from pathlib import Path


@cache
def version() -> str:
    """The version of this package."""
    return version_of("oban")


def memory() -> int:
    """Bytes that this process occupies now, or did at most where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
