"""Where the file of a module lies, found without importing anything, and whose it is."""

import importlib
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Final

from oban.errors import InvalidOption

#: Folders of installed code, wherever they lie.
INSTALLED: Final = frozenset({"site-packages", "dist-packages", "node_modules"})


@dataclass(frozen=True, slots=True)
class Located:
    """One module on the way to the one that is looked for."""

    name: str
    #: None for a namespace package, and for a module built into Python.
    file: Path | None
    #: Where its submodules lie; empty for a module that is no package.
    folders: tuple[str, ...]
    #: Importing it again runs nothing.
    imported: bool


def locate(parts: Sequence[str]) -> Iterator[Located]:
    """Walk a dotted name from the left and yield each module on the way, as far as there are any.

    Runs no code of theirs, neither the module's nor that of the packages it lies in.
    """
    path: Sequence[str] | None = None
    for depth, part in enumerate(parts, start=1):
        name = ".".join(parts[:depth])
        module = sys.modules.get(name)
        if module is not None:
            path = [str(folder) for folder in getattr(module, "__path__", ())]
            origin = getattr(module, "__file__", None)
            yield Located(name, origin and resolved(origin), tuple(path), imported=True)
        else:
            # By the last part alone: told the whole name, the finder of a namespace package
            # asks for its parent's module, which is not imported.
            spec = PathFinder.find_spec(part, path)
            if spec is None:
                return
            path = list(spec.submodule_search_locations or ())
            yield Located(name, file_of(spec), tuple(path), imported=False)
        if not path:
            return


def file_of(spec: ModuleSpec) -> Path | None:
    return resolved(spec.origin) if spec.has_location and spec.origin else None


def import_module(name: str) -> BaseException | None:
    """Import it, and return what it raised, if it did."""
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # foreign code; a script ends by exit()
        return error
    return None


class Application:
    """The files that are the application's own: those under its root, but not all of them.

    Left out are installed code, hidden folders and Python itself.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or Path.cwd()).resolve()
        if not self.root.is_dir():
            raise InvalidOption(f"the application directory is {str(root)!r}, which is no folder")
        self.python = python_folders(self.root)

    def holds(self, file: Path) -> bool:
        """Whether it is one of them; `file` is absolute and its links are resolved."""
        if not file.is_relative_to(self.root) or not INSTALLED.isdisjoint(file.parts):
            return False
        if any(part.startswith(".") for part in file.relative_to(self.root).parts):
            return False
        return not any(file.is_relative_to(folder) for folder in self.python)


def python_folders(root: Path) -> set[Path]:
    """The folders of Python and its environment.

    One that the root itself lies in is left out, or an application in /usr/src would have no file
    of its own under a Python in /usr; the standard library never is.
    """
    prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    library = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    outside = {each for each in map(resolved, prefixes) if not root.is_relative_to(each)}
    return outside | {resolved(each) for each in library}


def resolved(path: str) -> Path:
    return Path(path).resolve()
