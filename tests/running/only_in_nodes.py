"""A resource whose module can be imported in a node, and fails in a child."""

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import current_process

if current_process().name != "MainProcess":
    raise RuntimeError("not here")


@contextmanager
def local() -> Iterator[str]:
    yield "local"
