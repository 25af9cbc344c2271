"""From the worker's name in a row, or from the files of an application, to its definition.

A row is data that anyone who can write to the table has written, so what it names is never
imported before its file is found, without running any code, and lies where workers may lie.
"""

from oban.lookup.discovery import Discovery, discover, import_all
from oban.lookup.finder import WorkerFinder

__all__ = ["Discovery", "WorkerFinder", "discover", "import_all"]
